"""What a forked process does with the objects that it inherits.

A fork copies memory, but only the thread that forks: a library's threads are missing in the child,
where it waits for them or crashes as soon as it runs, or frees, what depends on them. A lock that
another thread held at that moment is never released there.
"""

from __future__ import annotations

import ctypes
import os
from abc import ABC, abstractmethod
from weakref import WeakSet


class Inherited(ABC):
    """An object with locks, or with parts that belong to the threads of a library."""

    def __init__(self) -> None:
        _inherited.add(self)

    @abstractmethod
    def _begin_in_child(self) -> None:
        """Makes it usable in a forked child, or refuse to run there. Its locks may be held."""


def keep_for_ever(thing: object) -> None:
    """Never frees an object, not even at the end of Python."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_inherited: WeakSet[Inherited] = WeakSet()


def _begin_in_child() -> None:
    for each in list(_inherited):
        each._begin_in_child()


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_begin_in_child)
