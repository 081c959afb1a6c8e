"""A small LRU cache for objects that are expensive to make per shape."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

T = TypeVar("T")


class Recent(Generic[T]):
    """Keeps the objects of the last `limit` keys.

    `discard` receives those that are dropped. The oldest is dropped before a new one is made, as
    memory may not hold both.
    """

    def __init__(self, limit: int, discard: Callable[[T], object] = lambda item: None) -> None:
        self._limit, self._discard = limit, discard
        self._items: OrderedDict[Hashable, T] = OrderedDict()

    def get_or_make(self, key: Hashable, make: Callable[[], T]) -> T:
        """The object of this key, made now if it is not kept."""
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
