"""The signals of a terminal, in programs that a shell started in the background."""

from __future__ import annotations

import signal


def end_by_signals() -> None:
    """Lets SIGINT and SIGHUP end the program and its children even if they are ignored here, as by
    nohup."""
    for number, handler in (
        (signal.SIGINT, signal.default_int_handler),
        (getattr(signal, "SIGHUP", signal.SIGTERM), signal.SIG_DFL),
    ):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)
