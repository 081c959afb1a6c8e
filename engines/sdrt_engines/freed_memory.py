"""Makes the C library return freed memory to the system.

Once a program has freed large blocks, glibc serves blocks of up to 32 MiB from a heap that shrinks
only at its end. A network's weights are such blocks: those that are freed while it opens would
remain between those that stay, and after it was closed most would.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD
_LARGE = 2**20  # bytes; with glibc's own limit, an eighth of it, a UNet opens 10 % slower
_MOST = 2**25  # bytes: the highest limit that glibc sets itself

_blocks: set[object] = set()  # in progress: networks may open at the same time

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_blocks.clear)


@contextmanager
def returning_memory() -> Iterator[None]:
    """Large blocks of memory that are allocated meanwhile return to the system when freed."""
    library = _glibc()
    if library is None:
        yield
        return
    block = object()
    _blocks.add(block)
    library.mallopt(_MMAP_THRESHOLD, _LARGE)
    try:
        yield
    finally:
        _blocks.discard(block)
        if not _blocks:  # as glibc sets them itself in a program that frees large blocks
            library.mallopt(_MMAP_THRESHOLD, _MOST)
            library.mallopt(_TRIM_THRESHOLD, 2 * _MOST)
        library.malloc_trim(0)


def return_freed_memory() -> None:
    """Returns what was freed before."""
    library = _glibc()
    if library is not None:
        library.malloc_trim(0)


def _glibc() -> Any:
    """The C library, if it is glibc."""
    if sys.platform != "linux":
        return None
    import ctypes  # here: `import sdrt` does not need it

    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None
