"""The early end of a request: its deadline, and its cancellation by another thread."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sdrt.errors import DeadlineExceeded, RequestCancelled
from sdrt.kinds import Between
from sdrt_engines.time_limit import time_limit

_SECONDS = Between(0.001, 1e6)


class Stop:
    """When a request has to end, and how far it has come."""

    def __init__(self, deadline: float | None = None) -> None:
        """`deadline` is in seconds after `start`. RequestError if it is not such a number."""
        self._deadline = None if deadline is None else _SECONDS.checked("deadline", deadline)
        self._at = math.inf  # of time.monotonic()
        self.cancelled = False
        self.reached = "before the end of the first step"

    def start(self) -> None:
        if self._deadline is not None:
            self._at = time.monotonic() + self._deadline

    @contextmanager
    def watching(self, work: Callable[[], str]) -> Iterator[None]:
        """Ends the request before and after the block, and at its deadline also within.

        Raises RequestCancelled, or DeadlineExceeded with `work()` in its message.
        """
        self.require_not_cancelled()
        with time_limit(self._at, lambda: self._exceeded(work())):
            if time.monotonic() >= self._at:
                raise self._exceeded(work())
            yield
        self.require_not_cancelled()

    def require_not_cancelled(self) -> None:
        if self.cancelled:
            raise RequestCancelled(f"the request was cancelled {self.reached}: it has no image")

    def _exceeded(self, work: str) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"the deadline of {self._deadline:g} s passed {self.reached}, {work}: set a later "
            "deadline, or ask for fewer steps, fewer images or a smaller size"
        )
