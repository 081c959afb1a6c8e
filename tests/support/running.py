"""A line of output when a network runs in this process."""

from __future__ import annotations

import sys
import threading
import time

from sdrt_engines import interruptible

LONG = 0.25  # seconds: more than a small network takes


def say_when_running() -> None:
    """Prints "running" once a network has run for a while; loading does not count."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    call, since = None, time.monotonic()
    while call is None or time.monotonic() < since + LONG:
        running = next((each for each in interruptible._running.copy() if each._cancel), None)
        if running is not call:
            call, since = running, time.monotonic()
        time.sleep(0.01)
    sys.stdout.write("running\n")
    sys.stdout.flush()
