"""Signals that end a command: Ctrl-C, SIGTERM and SIGHUP, each with its own exit code."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Thread, Timer, current_thread, main_thread
from types import FrameType

_DEFAULTS = {
    getattr(signal, name): default
    for name, default in {
        "SIGINT": signal.default_int_handler,
        "SIGTERM": signal.SIG_DFL,
        "SIGHUP": signal.SIG_DFL,
    }.items()
    if hasattr(signal, name)
}
_HANGUP = {getattr(signal, name) for name in ("SIGHUP",) if hasattr(signal, name)}
_GRACE = 5.0  # seconds; docker waits ten before it kills


class Ended(KeyboardInterrupt):
    """A signal asked the process to end."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


@contextmanager
def ending_signals(grace: float = _GRACE) -> Iterator[None]:
    """The first of these signals in the block raises `Ended`, so that nothing incomplete is left.

    A second one ends the process at once (but SIGHUP, which a closing terminal sends in addition),
    and so does a block that goes on for `grace` seconds; the next command removes what it leaves.
    Signals that are ignored, as by nohup, or for which the calling program has its own handlers are
    left alone.
    """
    if current_thread() is not main_thread():
        yield
        return
    handled = {
        each: default for each, default in _DEFAULTS.items() if signal.getsignal(each) is default
    }
    ended = False

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ended
        if not ended:  # the watcher handles the second one
            ended = True
            raise Ended(number)

    for each in handled:
        signal.signal(each, end)
    try:
        with _watcher({*handled}, grace):
            yield
    finally:
        for each, default in handled.items():
            signal.signal(each, default)


def exit_code(error: KeyboardInterrupt) -> int:
    """The exit code that shells give to a process ended by that signal: 130, 143, 129."""
    return 128 + (error.number if isinstance(error, Ended) else signal.SIGINT)


@contextmanager
def _watcher(signals: set[int], grace: float) -> Iterator[None]:
    """Ends the process at the second of these signals in the block, and `grace` seconds after the
    first."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    watcher = Thread(target=_watch, args=(reader, signals, grace), daemon=True)
    previous = signal.set_wakeup_fd(writer)  # gets the number of each signal with a handler
    watcher.start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(previous)
        os.close(writer)  # ends the watcher
        watcher.join()
        os.close(reader)


def _watch(reader: int, signals: set[int], grace: float) -> None:
    last_resort: Timer | None = None
    while received := os.read(reader, 1):
        number = received[0]
        if number in signals and last_resort is None:
            last_resort = Timer(grace, _end_at_once, [number])
            last_resort.daemon = True
            last_resort.start()
        elif number in signals - _HANGUP:
            _end_at_once(number)
    if last_resort is not None:
        last_resort.cancel()


def _end_at_once(number: int) -> None:
    with suppress(OSError):  # stderr may be closed
        os.write(2, b"sdrt: interrupted; the next command removes incomplete files\n")
    os._exit(128 + number)
