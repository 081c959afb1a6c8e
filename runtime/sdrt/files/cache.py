"""The folder for cached data of this machine, which sdrt can do without."""

from __future__ import annotations

import os
from pathlib import Path

from sdrt.errors import SdrtError
from sdrt_engines.operating_system import user_caches

VARIABLE = "SDRT_CACHE"


def cache_folder() -> Path:
    """`$SDRT_CACHE`, or sdrt's folder in this user's cache folder. It may not exist yet.

    SdrtError if the system does not know the home folder.
    """
    if chosen := os.environ.get(VARIABLE):
        return Path(chosen).absolute()
    try:
        return user_caches() / "sdrt"
    except RuntimeError as error:
        raise SdrtError(f"this user has no home folder: set {VARIABLE} to a folder") from error


def require_writable(folder: Path) -> None:
    """Creates the folder if it is missing. SdrtError if files cannot be written there."""
    from tempfile import TemporaryFile  # not needed for `import sdrt`

    try:
        folder.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=folder).close()
    except OSError as error:
        raise SdrtError(
            f"'{folder}' cannot be written: {error.strerror}: set {VARIABLE} to a folder that can"
        ) from error
