"""A limit to the time that a thread waits, for calls of libraries and for other threads."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeAlias

_Lock: TypeAlias = "threading.Lock | threading.RLock"

# Seconds between two looks at signals. One that comes just before the wait does not end it, and on
# Windows none does.
_PATIENCE = 0.1


@dataclass(frozen=True)
class _Limit:
    at: float  # of time.monotonic()
    error: Callable[[], Exception]


class _Thread(threading.local):
    limit = _Limit(math.inf, TimeoutError)


_thread = _Thread()


@contextmanager
def time_limit(at: float, error: Callable[[], Exception]) -> Iterator[None]:
    """Raises `error()` wherever this thread waits in the block after `time.monotonic()` is `at`."""
    outer, _thread.limit = _thread.limit, _Limit(at, error)
    try:
        yield
    finally:
        _thread.limit = outer


def time_is_up() -> bool:
    """True after this thread's time limit."""
    return time.monotonic() >= _thread.limit.at


def acquire(lock: _Lock) -> None:
    """Acquires the lock. Signals and the time limit end the wait."""
    while not lock.acquire(timeout=_seconds_to_wait()):
        if time_is_up():
            raise _thread.limit.error()


def _seconds_to_wait() -> float:
    return min(max(_thread.limit.at - time.monotonic(), 0), _PATIENCE)


@contextmanager
def held(lock: _Lock) -> Iterator[None]:
    """Holds the lock; the time limit ends the wait for it."""
    acquire(lock)
    try:
        yield
    finally:
        lock.release()
