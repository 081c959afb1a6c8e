"""Objects that a forked process inherits.

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
        """Makes it usable in a forked child, or makes it refuse to run there. Locks may be held."""


class OneProcess:
    """A library that, once it has been used, does not work in processes forked later."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._used_in: int | None = None

    def use(self) -> None:
        self._used_in = self._used_in or os.getpid()

    def refusal(self) -> str | None:
        """The reason why this process cannot use it, or None."""
        if self._used_in in (None, os.getpid()):
            return None
        return (
            f"{self._name} was used before this process was forked, and its threads do not exist "
            "here: start processes with 'spawn', or fork before that"
        )


def keep_for_ever(thing: object) -> None:
    """Never frees an object, not even at the end of Python."""
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


_inherited: WeakSet[Inherited] = WeakSet()


def _begin_in_child() -> None:
    for each in list(_inherited):
        each._begin_in_child()


if hasattr(os, "register_at_fork"):  # Windows has no forks
    os.register_at_fork(after_in_child=_begin_in_child)
