"""The command `sdrt`: Ctrl-C and a lack of memory end it in order, also while Python imports the
rest."""

from __future__ import annotations

import errno
import os
import re
import signal
import sys
from contextlib import suppress
from types import FrameType

_INTERRUPTED = 128 + signal.SIGINT


def main() -> int:
    """Runs the command line and returns its exit code."""
    interrupt_quietly()
    try:
        from sdrt.command_line.main import main as run

        if signal.getsignal(signal.SIGINT) is _leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        return _without_waiting(run())
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


def interrupt_quietly() -> None:
    """Makes Ctrl-C end the process until `main` runs a command: there is nothing to clean up."""
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        # not ignored, as in a shell's background jobs
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(_INTERRUPTED)


def _without_waiting(code: int) -> int:
    """The exit code. Ends the process if a library still loads a network that nobody waits for."""
    from sdrt_engines.interruptible import num_running

    if num_running():
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError, AttributeError):  # closed, or None
                stream.flush()
        os._exit(code)
    return code


def _lacks_memory(error: Exception) -> bool:
    """True for any form in which Python and the system's loader report it."""
    words = r"cannot allocate memory|(cannot|failed to) map|can.t start new thread"
    return (
        isinstance(error, MemoryError)
        or getattr(error, "errno", None) == errno.ENOMEM
        or bool(re.search(words, str(error), re.IGNORECASE))
    )
