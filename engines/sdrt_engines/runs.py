"""The runs of an engine that are in progress, which it waits for when it is closed."""

from __future__ import annotations

from threading import Condition


class Runs:
    """Counts runs; usable from several threads.

    `end` and `close` are True once, for the caller that must release what the runs used.
    """

    def __init__(self, *, closed: bool = False) -> None:
        self.closed = closed
        self._idle = Condition()
        self._running: set[object] = set()
        self._left: set[object] = set()  # those of them that nobody waits for
        self._released = False

    def begin(self, run: object) -> bool:
        """Adds a run; False if it may not begin, as they are closed."""
        with self._idle:
            if not self.closed:
                self._running.add(run)
            return not self.closed

    def end(self, run: object) -> bool:
        with self._idle:
            self._running.discard(run)
            was_left = run in self._left
            self._left.discard(run)
            self._idle.notify_all()
            return was_left and self._must_release()

    def leave(self, run: object) -> None:
        """No longer waits for a run that does not end."""
        with self._idle:
            if run in self._running:
                self._left.add(run)
                self._idle.notify_all()

    def close(self, patience: float | None) -> bool:
        """Lets no other run begin, and waits for those in progress, so many seconds at most."""
        with self._idle:
            self.closed = True
            self._idle.wait_for(lambda: self._running <= self._left, patience)
            return self._must_release()

    def _must_release(self) -> bool:
        if self._running or self._released or not self.closed:
            return False
        self._released = True
        return True
