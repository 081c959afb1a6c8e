"""What is expensive to make, per shape, and kept for the last few of them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """The things of the last `limit` keys that were asked for.

    `discard` gets those that go. The oldest goes before a new one is made, as memory may not hold
    both.
    """

    def __init__(self, limit: int, discard: Callable[[T], object] = lambda item: None) -> None:
        self._limit, self._discard = limit, discard
        self._items: OrderedDict[Hashable, T] = OrderedDict()

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """The thing of this key, made now where it is not kept."""
        if key not in self._items:
            while len(self._items) >= self._limit:
                self._discard_oldest()
            self._items[key] = make()
        self._items.move_to_end(key)
        return self._items[key]

    def __contains__(self, key: Hashable) -> bool:
        return key in self._items

    def clear(self) -> None:
        while self._items:
            self._discard_oldest()

    def _discard_oldest(self) -> None:
        self._discard(self._items.popitem(last=False)[1])
