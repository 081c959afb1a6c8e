"""The memory that a run on a GPU needs, and its contents that are still valid from the last run.

Plain arithmetic: nothing here touches a GPU.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sdrt_engines.tensor import Array, Shape

ALIGNMENT = 256  # bytes: guaranteed by cudaMalloc, required by TensorRT for scratch memory


def bytes_of(dtype: np.dtype[Any], shape: Shape) -> int:
    """The bytes of an array in whole `ALIGNMENT`s, at least one: no bytes would have no address."""
    size = dtype.itemsize * math.prod(shape)
    return max(-(-size // ALIGNMENT), 1) * ALIGNMENT


@dataclass
class Slot:
    """Device memory for one tensor: kept while its contents fit, reallocated when they grow."""

    allocate: Callable[[int], int]  # bytes → address
    free: Callable[[int], None]
    address: int = 0
    capacity: int = 0
    content: object = None  # the last upload, if it may be reused

    def reserve(self, size: int) -> bool:
        """Makes room for `size` bytes; True if the address changed and the contents were lost."""
        if size <= self.capacity:
            return False
        self.release()
        self.address, self.capacity = self.allocate(size), size
        return True

    def release(self) -> None:
        address, capacity = self.address, self.capacity
        self.address = self.capacity = 0
        self.content = None
        if capacity:
            self.free(address)


@dataclass
class Blocks:
    """Device memory for outputs: a block that is given back is reused for the next of its size.

    Safe on one stream: reads of a block are queued before its next write. `take` and `release` need
    a lock, `give_back` needs none: the garbage collector may call it in the middle of either.
    """

    allocate: Callable[[int], int]  # bytes → address
    free: Callable[[int], None]
    returned: deque[tuple[int, int]] = field(default_factory=deque)  # (address, bytes): not sorted
    _idle: dict[int, list[int]] = field(default_factory=dict)  # bytes → addresses

    def take(self, size: int) -> int:
        self._sort()
        idle = self._idle.get(size)
        return idle.pop() if idle else self.allocate(size)

    def give_back(self, address: int, size: int) -> None:
        self.returned.append((address, size))  # one step: no thread sees half of it

    def release(self) -> None:
        """Frees all idle blocks."""
        self._sort()
        for addresses in self._idle.values():
            while addresses:
                self.free(addresses.pop())

    def _sort(self) -> None:
        while self.returned:
            address, size = self.returned.popleft()
            self._idle.setdefault(size, []).append(address)


@dataclass(frozen=True, eq=False)
class Upload:
    """A pinned feed, compared by identity: uploaded to its input by the first run that uses it, and
    reused by the next."""

    array: Array

    @property
    def shape(self) -> Shape:
        shape: Shape = self.array.shape
        return shape


def to_upload(value: Array | Upload, slot: Slot) -> Array | None:
    """The array that must be copied to the slot before a run, or None if it is already there.

    Records what the slot will hold.
    """
    if isinstance(value, Upload):
        if slot.content is value:
            return None
        slot.content = value
        return value.array
    slot.content = None  # the caller may change an array in place
    return value


def graph_key(
    profile: int, shapes: Mapping[str, Shape], slots: Mapping[str, Slot], scratch: int
) -> object:
    """The key of a captured CUDA graph: its profile and shapes, and every address in it."""
    tensors = tuple(sorted((name, slot.address) for name, slot in slots.items()))
    return profile, tuple(sorted(shapes.items())), tensors, scratch
