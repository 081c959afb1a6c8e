from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pytest

from sdrt_engines.device_memory import (
    ALIGNMENT,
    Blocks,
    Slot,
    Upload,
    bytes_of,
    graph_key,
    to_upload,
)

X = np.zeros((2, 3), np.float32)


@dataclass
class Memory:
    """Counts allocations, and gives each block its own address."""

    live: dict[int, int] = field(default_factory=dict)
    given: int = 0

    def allocate(self, size: int) -> int:
        self.given += ALIGNMENT
        self.live[self.given] = size
        return self.given

    def slot(self) -> Slot:
        return Slot(self.allocate, self.live.pop)  # type: ignore[arg-type]

    def blocks(self) -> Blocks:
        return Blocks(self.allocate, self.live.pop)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "shape", "size"),
    [("float32", (2, 4, 64, 64), 131072), ("int64", (1,), 256), ("float16", (0, 4), 256)],
)
def test_the_bytes_of_an_array(dtype: str, shape: tuple[int, ...], size: int) -> None:
    assert bytes_of(np.dtype(dtype), shape) == size


def test_memory_is_kept_while_what_it_holds_fits() -> None:
    memory = Memory()
    slot = memory.slot()
    assert slot.reserve(1000)
    address = slot.address
    assert not slot.reserve(1000)
    assert not slot.reserve(10)
    assert slot.address == address
    assert slot.reserve(2000)
    assert slot.address != address
    assert memory.live == {slot.address: 2000}
    slot.release()
    slot.release()
    assert memory.live == {}


def test_memory_that_cannot_be_freed_is_not_freed_twice() -> None:
    def fail(address: int) -> None:
        raise KeyboardInterrupt

    memory = Memory()
    for slot in (Slot(memory.allocate, fail), blocks := Blocks(memory.allocate, fail)):
        if isinstance(slot, Slot):
            slot.reserve(256)
        else:
            slot.give_back(slot.take(256), 256)
        with pytest.raises(KeyboardInterrupt):
            slot.release()
        slot.release()
    assert blocks.take(256) == 3 * ALIGNMENT


def test_what_an_output_gives_back_the_next_of_its_size_takes() -> None:
    memory = Memory()
    blocks = memory.blocks()
    first, second = blocks.take(512), blocks.take(512)
    assert first != second
    blocks.give_back(first, 512)
    assert blocks.take(256) not in (first, second)
    assert blocks.take(512) == first
    blocks.give_back(first, 512)
    blocks.release()
    blocks.release()
    assert sorted(memory.live.values()) == [256, 512]  # held blocks stay
    assert second in memory.live


def test_a_pinned_feed_is_uploaded_once() -> None:
    slot, pinned = Memory().slot(), Upload(X)
    slot.reserve(X.nbytes)
    assert to_upload(pinned, slot) is X
    assert to_upload(pinned, slot) is None
    other = Upload(X)
    assert to_upload(other, slot) is X
    assert to_upload(pinned, slot) is X  # the other one replaced it


def test_an_array_is_uploaded_each_time() -> None:
    slot, pinned = Memory().slot(), Upload(X)
    assert to_upload(X, slot) is X
    assert to_upload(X, slot) is X
    to_upload(pinned, slot)
    to_upload(X, slot)
    assert to_upload(pinned, slot) is X


def test_what_was_uploaded_is_lost_when_memory_moves() -> None:
    slot, pinned = Memory().slot(), Upload(X)
    slot.reserve(256)
    to_upload(pinned, slot)
    slot.reserve(512)
    assert to_upload(pinned, slot) is X


def test_a_graph_is_good_for_its_shapes_and_addresses_alone() -> None:
    slots = {"x": Memory().slot()}
    slots["x"].reserve(256)
    shapes = {"x": (1, 4)}
    key = graph_key(0, shapes, slots, scratch=1)
    assert graph_key(0, dict(shapes), slots, scratch=1) == key
    assert graph_key(1, shapes, slots, scratch=1) != key
    assert graph_key(0, {"x": (2, 4)}, slots, scratch=1) != key
    assert graph_key(0, shapes, slots, scratch=2) != key
    slots["x"].reserve(512)
    assert graph_key(0, shapes, slots, scratch=1) != key
