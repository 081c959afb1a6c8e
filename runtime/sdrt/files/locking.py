"""Allows one writer at a time among all processes of a machine."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO


@contextmanager
def only_one(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file at `path`; if another process holds it, calls `waiting` once first.

    The system releases the lock when a process ends, however it ends. The file stays.
    """
    with path.open("a+b") as file:
        if not _take(file, wait=False):
            waiting()
            _take(file, wait=True)
        yield  # closing the file releases the lock


if sys.platform == "win32":
    import msvcrt
    import time

    def _take(file: IO[bytes], *, wait: bool) -> bool:
        while True:
            try:
                msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
            except OSError:
                if not wait:
                    return False
                time.sleep(0.5)
            else:
                return True

else:
    import fcntl

    def _take(file: IO[bytes], *, wait: bool) -> bool:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
        except BlockingIOError:
            return False
        return True
