"""The folder for what sdrt remembers on a machine, and can do without."""

from __future__ import annotations

import os
from pathlib import Path

from sdrt.errors import SdrtError
from sdrt_engines.operating_system import user_caches

VARIABLE = "SDRT_CACHE"


def cache_folder() -> Path:
    """`$SDRT_CACHE`, or else sdrt's folder among this user's caches. It may not exist yet.

    SdrtError if the system knows no home folder.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).absolute()
    try:
        return user_caches() / "sdrt"
    except RuntimeError as error:
        raise SdrtError(f"this user has no home folder: set {VARIABLE} to a folder") from error


def require_writable(folder: Path) -> None:
    """Makes the folder if it is missing. SdrtError if files cannot be written there."""
    from tempfile import TemporaryFile  # `import sdrt` does without it

    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SdrtError(
            f"'{folder}' cannot be written: {error.strerror}: set {VARIABLE} to a folder that can"
        ) from error
