"""Freed memory returns to the system."""

from __future__ import annotations

import ctypes

import pytest

from sdrt_engines import resident_memory
from sdrt_engines.freed_memory import _glibc, return_freed_memory, returning_memory

MIB = 2**20
NUM_BLOCKS = 128

pytestmark = pytest.mark.skipif(_glibc() is None, reason="its C library is not glibc")


def resident() -> float:
    found = resident_memory()
    assert found is not None
    return found / MIB


def blocks(size: int, library: ctypes.CDLL) -> list[int]:
    library.malloc.restype = library.memset.restype = ctypes.c_void_p
    library.malloc.argtypes = [ctypes.c_size_t]
    library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
    library.free.argtypes = [ctypes.c_void_p]
    found = [library.malloc(size) for _ in range(NUM_BLOCKS)]
    for block in found:
        library.memset(block, 1, size)
    return found


def test_blocks_between_others_return() -> None:
    library = ctypes.CDLL(None)
    library.free.argtypes = [ctypes.c_void_p]
    with returning_memory():
        pass  # from now on, other blocks of a MiB are in the heap
    before = resident()
    with returning_memory():
        found = blocks(MIB, library)
        for block in found[::2]:
            library.free(block)
        inside = resident() - before
    for block in found[1::2]:
        library.free(block)
    assert inside < NUM_BLOCKS / 2 + 16


def test_what_was_freed_before_returns() -> None:
    library = ctypes.CDLL(None)
    with returning_memory():
        pass  # as above
    before = resident()
    found = blocks(MIB, library)
    for block in found[:-1]:
        library.free(block)
    return_freed_memory()
    freed = resident() - before
    library.free(found[-1])
    assert freed < 16
