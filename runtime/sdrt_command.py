"""The command `sdrt`: Ctrl-C ends it quietly, also while Python imports the rest."""

from __future__ import annotations

import os
import signal

_INTERRUPTED = 128 + signal.SIGINT


def main() -> int:
    """Runs the command line and returns its exit code."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # not ignored, as in a shell's background jobs
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))  # nothing to clean up yet
    from sdrt.command_line.main import main as run

    try:
        signal.signal(signal.SIGINT, handler)
        return run()
    except KeyboardInterrupt:  # before the command began
        return _INTERRUPTED
