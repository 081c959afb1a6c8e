"""Signals that come while a test waits."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SOON, AGAIN = 0.1, 0.3  # seconds


class AlarmError(Exception):
    """Raised by the handler of a signal, as a job queue's time limit does."""

    def __init__(self, number: int) -> None:
        super().__init__(f"alarm {number}")
        self.number = number


@contextmanager
def alarms(*seconds: float) -> Iterator[None]:
    """Each alarm raises an `AlarmError` in the main thread: after `seconds[0]`, and so on."""
    pending = [*seconds]

    def raise_error(number: int, frame: FrameType | None) -> None:
        rung = len(seconds) - len(pending)
        if pending:
            signal.setitimer(signal.ITIMER_REAL, pending.pop(0))
        raise AlarmError(rung)

    before = signal.signal(signal.SIGALRM, raise_error)
    signal.setitimer(signal.ITIMER_REAL, pending.pop(0))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
