"""A new file that never replaces another, even one that appears at the same moment."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sdrt.files.atomic import appearing_file


def create_file(path: Path, content: bytes) -> None:
    """Writes a new file, which appears complete. FileExistsError if the path is taken.

    SdrtError if it is not writable or the disk is full.
    """
    draft = path.with_name(f".sdrt-{secrets.token_hex(4)}")
    with appearing_file(draft) as place:
        place.write_bytes(content)
    try:
        _link(draft, path)
    finally:
        draft.unlink(missing_ok=True)


def _link(draft: Path, path: Path) -> None:
    """Unlike a rename, a link does not replace; some disks of other systems have no links."""
    try:
        os.link(draft, path)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(path):
            raise FileExistsError(path) from None
        draft.rename(path)
