"""Signals that end a command: SIGTERM and SIGHUP like Ctrl-C, each with its own exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread, current_thread, main_thread
from types import FrameType

_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
_GRACE = 5.0  # seconds; docker waits ten before it kills


class Ended(KeyboardInterrupt):
    """A signal other than Ctrl-C's asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def ending_signals(grace: float = _GRACE) -> Iterator[None]:
    """SIGTERM and SIGHUP in the block raise `Ended`, so that nothing incomplete is left.

    Not if they are ignored, as by nohup, or if the program that calls has its own handlers. Python
    handles signals between two of its steps: a network that computes on for more than `grace`
    seconds is ended with the process, and the next command removes what it leaves.
    """
    if current_thread() is not main_thread():
        yield
        return
    handled = [each for each in _ENDING if signal.getsignal(each) is signal.SIG_DFL]

    def end(number: int, frame: FrameType | None) -> None:
        for each in handled:  # a second one must not interrupt the cleaning up
            signal.signal(each, signal.SIG_IGN)
        raise Ended(number)

    for each in handled:
        signal.signal(each, end)
    try:
        with _deadline({signal.SIGINT, *handled}, grace):
            yield
    finally:
        for each in handled:
            signal.signal(each, signal.SIG_DFL)


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code that shells give to a process ended by that signal: 130, 143, 129."""
    return 128 + (error.number if isinstance(error, Ended) else signal.SIGINT)


@contextmanager
def _deadline(signals: set[int], grace: float) -> Iterator[None]:
    """Ends the process if the block goes on for `grace` seconds after one of these signals."""
    ended = Event()
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = Thread(target=_watch, args=(reader, signals, ended, grace), daemon=True)
    previous = signal.set_wakeup_fd(writer)  # gets the number of each signal with a handler
    watcher.start()
    try:
        yield
    finally:
        ended.set()
        signal.set_wakeup_fd(previous)
        os.close(writer)  # ends the watcher
        watcher.join()
        os.close(reader)


def _watch(reader: int, signals: set[int], ended: Event, grace: float) -> None:
    while received := os.read(reader, 1):
        if received[0] in signals and not ended.wait(grace):
            os.write(2, b"sdrt: interrupted; the next command removes incomplete files\n")
            os._exit(128 + received[0])
