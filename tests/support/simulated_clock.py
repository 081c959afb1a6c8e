"""Simulated time, which passes only on request."""

from __future__ import annotations

from collections.abc import Callable, Sequence


class SimulatedClock:
    """A clock of `sdrt.benchmarking`; waiting for a moment takes no time."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start

    def now(self) -> float:
        return self._now

    def wait_until(self, moment: float) -> None:
        self._now = max(self._now, moment)

    def serving(self, seconds: Sequence[float]) -> Callable[[int], None]:
        """Serves each query in the seconds of its number, repeating the sequence."""
        return lambda number: self.wait_until(self._now + seconds[number % len(seconds)])
