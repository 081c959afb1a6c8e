"""Output that may be closed, full or no longer read: it never ends a command that did its work."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any, TextIO, cast


@contextmanager
def guarded_streams() -> Iterator[GuardedStream]:
    """Guards stdout and stderr during the block; gives the guard of stdout."""
    _open_closed_descriptors()
    before = sys.stdout, sys.stderr
    out, err = map(GuardedStream, before)
    sys.stdout, sys.stderr = cast(TextIO, out), cast(TextIO, err)
    try:
        yield out
    finally:
        out.flush()
        err.flush()
        sys.stdout, sys.stderr = before


class GuardedStream:
    """A stream of text that drops what cannot be written, and keeps the first `fault`."""

    def __init__(self, stream: TextIO | None) -> None:
        self.fault: OSError | None = None
        self._stream = stream  # None if it was closed when Python started
        if isinstance(stream, TextIOWrapper):  # not every terminal can show every character
            stream.reconfigure(errors="backslashreplace")

    @property
    def was_lost(self) -> bool:
        """True if output could not be written; a reader that has left does not miss it."""
        return self.fault is not None and not isinstance(self.fault, BrokenPipeError)

    def write(self, text: str) -> int:
        if self._stream is not None and self.fault is None:
            try:
                return self._stream.write(text)
            except OSError as error:
                self._give_up(error)
        return len(text)

    def flush(self) -> None:
        if self._stream is not None and self.fault is None:
            try:
                self._stream.flush()
            except OSError as error:
                self._give_up(error)

    def isatty(self) -> bool:
        return self._stream is not None and self._stream.isatty()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self, error: OSError) -> None:
        """Keeps the fault. Python writes the rest of its buffer at its end, now to nowhere."""
        self.fault = error
        with suppress(OSError, ValueError):  # not every stream has a descriptor
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, cast(TextIO, self._stream).fileno())
            os.close(nowhere)


def _open_closed_descriptors() -> None:
    """Puts the null device at closed standard descriptors. Else the next file that is opened, an
    image for example, would receive what libraries write there."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            nowhere = os.open(os.devnull, os.O_RDWR)
            if nowhere != descriptor:
                os.dup2(nowhere, descriptor)
                os.close(nowhere)
