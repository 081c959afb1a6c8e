"""Warnings of the log as lines of the command line."""

from __future__ import annotations

import logging

from sdrt.command_line.printable import printable, shortened


class _Line(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        message = " ".join(record.getMessage().split())
        return f"sdrt: warning: {printable(shortened(message))}"


def log_in_lines() -> None:
    """Formats what the log writes to stderr; a program that handles its log itself keeps it."""
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Line())
