"""Freed memory returns to the system."""

from __future__ import annotations

import subprocess
import sys

import pytest

from sdrt_engines.freed_memory import _glibc

NUM_BLOCKS = 128  # of a MiB

# In a process of its own: the heap of this one has free blocks of earlier tests, which glibc would
# take instead of new memory.
BLOCKS = f"""
import ctypes
from sdrt_engines import resident_memory
from sdrt_engines.freed_memory import return_freed_memory, returning_memory

library = ctypes.CDLL(None)
library.malloc.restype = library.memset.restype = ctypes.c_void_p
library.malloc.argtypes = [ctypes.c_size_t]
library.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]
library.free.argtypes = [ctypes.c_void_p]

def blocks():
    found = [library.malloc(2**20) for _ in range({NUM_BLOCKS})]
    for block in found:
        library.memset(block, 1, 2**20)
    return found

with returning_memory():
    pass  # from now on, other blocks of a MiB are in the heap
before = resident_memory()
"""

BETWEEN_OTHERS = """
with returning_memory():
    for block in blocks()[::2]:
        library.free(block)
    print((resident_memory() - before) / 2**20)
"""

AFTER_AN_INNER_BLOCK = """
with returning_memory():
    with returning_memory():
        pass  # as another network that has opened meanwhile
    for block in blocks()[::2]:
        library.free(block)
    print((resident_memory() - before) / 2**20)
"""

FREED_BEFORE = """
for block in blocks()[:-1]:
    library.free(block)
return_freed_memory()
print((resident_memory() - before) / 2**20)
"""

pytestmark = pytest.mark.skipif(_glibc() is None, reason="its C library is not glibc")


def remaining(program: str) -> float:
    """The MiB of the blocks that remain with the process."""
    return float(subprocess.check_output([sys.executable, "-c", BLOCKS + program]))


def test_blocks_between_others_return() -> None:
    assert remaining(BETWEEN_OTHERS) < NUM_BLOCKS / 2 + 16


def test_blocks_return_until_all_networks_have_opened() -> None:
    assert remaining(AFTER_AN_INNER_BLOCK) < NUM_BLOCKS / 2 + 16


def test_what_was_freed_before_returns() -> None:
    assert remaining(FREED_BEFORE) < 16
