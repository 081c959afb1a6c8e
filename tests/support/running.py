"""A line of output when a network runs in this process."""

from __future__ import annotations

import sys
import threading
import time

from sdrt_engines import interruptible

LONG = 0.1  # seconds: more than a small network takes


def say_when_running() -> None:
    """Prints "running" once a network has run for a while."""
    threading.Thread(target=_watch, daemon=True).start()


def _watch() -> None:
    since = time.monotonic()
    while time.monotonic() < since + LONG:
        if not any(call._cancel for call in interruptible._running.copy()):  # a load has none
            since = time.monotonic()
        time.sleep(0.01)
    sys.stdout.write("running\n")
    sys.stdout.flush()
