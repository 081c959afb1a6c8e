"""The command `sdrt`: Ctrl-C and a lack of memory end it in order, also while Python imports the
rest."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys

_INTERRUPTED = 128 + signal.SIGINT


def main() -> int:
    """Runs the command line and returns its exit code."""
    handler = signal.getsignal(signal.SIGINT)
    if handler is signal.default_int_handler:  # not ignored, as in a shell's background jobs
        signal.signal(signal.SIGINT, lambda *_: os._exit(_INTERRUPTED))  # nothing to clean up yet
    try:
        from sdrt.command_line.main import main as run

        signal.signal(signal.SIGINT, handler)
        return run()
    except KeyboardInterrupt:  # before the command began
        return _INTERRUPTED
    except Exception as error:
        if not _lacks_memory(error) or "--debug" in sys.argv:
            raise
        sys.stderr.write(
            "sdrt: there is not enough memory: close other programs, or raise the limit "
            "(ulimit -v, or that of the container)\n"
        )
        return 1


def _lacks_memory(error: Exception) -> bool:
    """True for any form in which Python and the system's loader report it."""
    words = r"cannot allocate memory|(cannot|failed to) map|can.t start new thread"
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or bool(re.search(words, str(error), re.IGNORECASE))
    )
