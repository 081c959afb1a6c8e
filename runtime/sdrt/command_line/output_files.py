"""Checks that a file can be written, before any work is done for it."""

from __future__ import annotations

import os
from pathlib import Path

from sdrt.errors import SdrtError
from sdrt.files.atomic import appearing_file


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


class _Enough(Exception):  # noqa: N818, not an error
    """Ends a trial."""


def _try_to_write(path: Path) -> None:
    """Writes an empty draft, as saving will do, and removes it.

    Permissions do not show whether that works: not for root, not on a read-only disk, and not
    whether the name of the draft is too long.
    """
    try:
        with appearing_file(path) as draft:
            draft.touch()
            raise _Enough
    except _Enough:
        pass
    except SdrtError as error:
        raise error.__cause__ or error from None
