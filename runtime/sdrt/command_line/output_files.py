"""Checks that a file can be written, before any work is done for it."""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile

from sdrt.errors import SdrtError


def require_writable(path: Path, option: str, kind: str) -> None:
    """Raises `SdrtError` naming the option for another file; `kind` is the kind of file.

    Writes a temporary file: permissions do not show it for root, or on a read-only disk.
    """
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
        TemporaryFile(dir=path.parent).close()
    except (OSError, RuntimeError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SdrtError(
            f"{path}: cannot be written: {reason}: choose another place with {option}"
        ) from error
