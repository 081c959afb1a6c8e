"""Gives the pages of mapped files back to the system, which reads them again when they are needed.

A library that maps a file of weights and makes its own copy of them keeps both in memory, and the
peak of the process is their sum.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

_MAPS = Path("/proc/self/maps")
_DONTNEED = 4  # MADV_DONTNEED of Linux
_INTERVAL = 0.05  # seconds, in which some 50 MB of weights are read


@contextmanager
def released_meanwhile(files: Collection[Path]) -> Iterator[None]:
    """Gives back the pages of these files that this process maps, again and again in the block.

    Only those mapped for reading. Does nothing except on Linux.
    """
    if sys.platform != "linux":
        yield
        return
    ended = Event()
    releasing = Thread(target=_release_until, args=(ended, files), daemon=True)
    try:
        releasing.start()
    except RuntimeError:  # the system has no more threads
        yield
        return
    try:
        yield
    finally:
        ended.set()
        releasing.join()


def _release_until(ended: Event, files: Collection[Path]) -> None:
    paths = {os.path.realpath(file) for file in files}
    while not ended.wait(_INTERVAL):
        _release(paths)
    _release(paths)


def _release(paths: Collection[str]) -> None:
    import ctypes  # here: `import sdrt` does not need it

    library = ctypes.CDLL(None)
    for start, end in _mappings(paths):
        library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _DONTNEED)


def _mappings(paths: Collection[str], maps: Path = _MAPS) -> Iterator[tuple[int, int]]:
    """The addresses at which the files are mapped read-only: dropped pages of others are lost."""
    try:
        lines = maps.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return
    for line in lines:
        addresses, permissions, *_, path = line.split(maxsplit=5)
        if path in paths and "w" not in permissions:
            start, end = addresses.split("-")
            yield int(start, 16), int(end, 16)
