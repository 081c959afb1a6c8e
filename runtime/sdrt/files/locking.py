"""Allows one writer at a time among all processes of a machine."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sdrt_engines.operating_system import cannot_lock, take_lock

# Never follows a link, and never waits for the other end of a pipe
_FLAGS = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


@contextmanager
def file_lock(path: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Holds the lock file at `path`; if another process holds it, calls `waiting` once first.

    Its folder is created if it is missing. The system releases the lock when a process ends,
    however it ends. The file is removed after the block.
    """
    file = _locked(path, waiting)
    try:
        yield
    finally:
        if _is_at(file, path):  # else it was moved away, and another may be there
            with suppress(OSError):  # Windows does not remove open files
                path.unlink()
        file.close()  # releases the lock


def try_lock(path: Path, *, create: bool) -> IO[bytes] | None:
    """The locked file at `path`, or None if another process has locked it or is removing it.

    Without `create`, FileNotFoundError if it does not exist. On a disk without locks, a created
    file counts as locked, and one that exists as locked by another.
    """
    file = _open(path, os.O_CREAT if create else 0)
    try:
        if take_lock(file, wait=False) and _is_at(file, path):
            return file
    except OSError as error:
        if not cannot_lock(error):
            raise
        if create:
            return file
    file.close()
    return None


def _locked(path: Path, waiting: Callable[[], None]) -> IO[bytes]:
    called = False
    while True:
        path.parent.mkdir(exist_ok=True)
        with suppress(FileNotFoundError):  # its folder was just removed
            if file := try_lock(path, create=True):
                return file
        if not called:
            waiting()
        called = True
        _wait(path)


def _wait(path: Path) -> None:
    """Waits until another process has released the lock."""
    with suppress(FileNotFoundError), _open(path) as file:
        take_lock(file, wait=True)


def _open(path: Path, flags: int = 0) -> IO[bytes]:
    return os.fdopen(os.open(path, _FLAGS | flags, 0o666), "r+b", buffering=0)


def _is_at(file: IO[bytes], path: Path) -> bool:
    """True if the open file is the one at `path`; the last holder may have removed it."""
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.lstat())
    except FileNotFoundError:
        return False
