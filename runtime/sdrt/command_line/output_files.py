"""Checks that a file can be written, before any work is done for it."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from sdrt.errors import SdrtError
from sdrt.files.drafts import scratch_in


def require_writable(path: Path, option: str, kind: str) -> None:
    """Raises `SdrtError` naming the option for another file; `kind` is the kind of file."""
    try:
        if path.resolve().is_dir():  # RuntimeError for a link to itself
            raise SdrtError(f"{path}: is a folder, expected the name of {kind} to write")
        if not path.parent.is_dir():
            raise SdrtError(f"{path}: there is no folder '{path.parent}': create it first")
        if path.exists() and not path.is_file():
            raise SdrtError(f"{path}: is a device or a FIFO, expected the name of {kind} to write")
        if path.exists() and not os.access(path, os.W_OK):
            raise SdrtError(
                f"{path}: this file is write-protected: choose another name with {option}"
            )
        _try_to_write(path)
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SdrtError(
            f"{path}: cannot be written: {reason}: choose another place with {option}"
        ) from error


def _try_to_write(path: Path) -> None:
    """Writes an empty file in a draft, as saving will do, and removes it.

    Permissions do not show whether that works: not for root, not on a read-only disk.
    """
    with suppress(FileNotFoundError):
        path.lstat()  # its name may be too long
    with scratch_in(path.parent) as folder:
        (folder / "trial").touch()
