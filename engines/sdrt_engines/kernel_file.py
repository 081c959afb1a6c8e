"""Kernels that a library compiled for this GPU, in a file that begins with their hash.

Such a file is code. It belongs into the user's cache folder, never into a bundle.
"""

from __future__ import annotations

import hashlib
import os
import secrets
from contextlib import suppress
from pathlib import Path

_HASH_SIZE = hashlib.sha256().digest_size


def read_kernels(path: Path) -> bytes | None:
    """The kernels in the file at `path`; None if it is missing or damaged."""
    try:
        content = path.read_bytes()
    except OSError:
        return None
    kernels = content[_HASH_SIZE:]
    return kernels if content[:_HASH_SIZE] == _hash(kernels) else None


def write_kernels(path: Path, kernels: bytes) -> None:
    """Writes the file complete or not at all; several processes may do so at once. OSError."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        draft.write_bytes(_hash(kernels) + kernels)
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink(missing_ok=True)
        raise


def _hash(kernels: bytes) -> bytes:
    return hashlib.sha256(kernels).digest()
