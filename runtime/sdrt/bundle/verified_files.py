"""Large files whose hash was compared before, remembered in this user's cache folder.

A file that was verified is not read again as long as its device, inode, size and times are the
same: whatever changes a file sets its ctime, which no program can choose. Damage that the disk does
by itself goes unnoticed until `sdrt verify`, which forgets what is remembered.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sdrt.errors import SdrtError
from sdrt.files.cache import cache_folder

LARGE = 2**24  # bytes; smaller files are hashed in ten milliseconds
MAX_FILES = 1000  # remembered
_SETTLED = 2 * 10**9  # nanoseconds: two changes may have one time, in steps of two seconds (FAT)


def is_remembered(path: Path, sha256: str) -> bool:
    """True if the file is the one that was found to have this hash."""
    try:
        found = path.stat()
        return found.st_size >= LARGE and _place(found).read_text(encoding="ascii") == _record(
            found, sha256
        )
    except (OSError, SdrtError, UnicodeDecodeError):
        return False


@contextmanager
def remembering(path: Path, sha256: str) -> Iterator[None]:
    """Remembers that the file has this hash, which the block finds by reading it."""
    before, now = path.stat(), time.time_ns()
    yield
    settled = now - before.st_ctime_ns > _SETTLED
    if before.st_size < LARGE or not settled or os.name != "posix":  # Windows has no such time
        return
    with suppress(OSError, SdrtError):  # a folder that cannot be written
        record = _record(before, sha256)
        if record == _record(path.stat(), sha256):
            _remember(_place(before), record)


def forget_files(root: Path) -> None:
    """Forgets what is remembered of the files in a folder: they are read again."""
    for path in root.rglob("*"):
        with suppress(OSError, SdrtError):
            _place(path.stat()).unlink()


def _remember(place: Path, record: str) -> None:
    """An incomplete record equals none, so it may be overwritten in place."""
    place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    places = [*place.parent.iterdir()]
    if len(places) >= MAX_FILES:
        for each in sorted(places, key=lambda each: each.stat().st_mtime)[: MAX_FILES // 2]:
            each.unlink(missing_ok=True)
    place.write_text(record, encoding="ascii")


def _place(found: os.stat_result) -> Path:
    return cache_folder() / "verified" / f"{found.st_dev:x}-{found.st_ino:x}"


def _record(found: os.stat_result, sha256: str) -> str:
    return f"{found.st_size} {found.st_mtime_ns} {found.st_ctime_ns} {sha256}\n"
