"""Allows one writer at a time among all processes of a machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from sdrt_engines.operating_system import take_lock


@contextmanager
def file_lock(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file at `path`; if another process holds it, calls `waiting` once first.

    The system releases the lock when a process ends, however it ends. The file stays.
    """
    with path.open("a+b") as file:
        if not take_lock(file, wait=False):
            waiting()
            take_lock(file, wait=True)
        yield  # closing the file releases the lock
