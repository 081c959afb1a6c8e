"""The times of queries, as in MLPerf's loadgen: one by one, all at once, or at random.

Nothing here depends on the kind of query or on real time. `run` serves one query and returns when
it is served; a `Clock` measures the time. A server of queries that arrive on their own is a
`Serve`: `InOrder` is one device without a queue of its own, and a batching server can replace it.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

Run: TypeAlias = Callable[[int], object]  # serves the query or batch with this number
# The completion of each query, for arrivals in ascending order; all in seconds from the start.
Serve: TypeAlias = Callable[[Sequence[float]], Sequence[float]]


class Clock(Protocol):
    """A source of time in seconds."""

    def now(self) -> float: ...

    def wait_until(self, moment: float) -> None:
        """Returns at once if the moment has passed."""


class WallClock:
    """Real time."""

    def now(self) -> float:
        return time.perf_counter()

    def wait_until(self, moment: float) -> None:
        time.sleep(max(0.0, moment - self.now()))


@dataclass(frozen=True)
class Extent:
    """The minimum length of a scenario: both bounds must be reached."""

    queries: int
    duration: float = 0.0  # seconds until the last query arrives; Offline: until it is served

    def reached(self, num_queries: int, last: float) -> bool:
        return num_queries >= self.queries and last >= self.duration


def one_by_one(run: Run, extent: Extent, clock: Clock) -> list[float]:
    """SingleStream: each query is sent when the one before it is served. The latencies."""
    start, latencies = clock.now(), list[float]()
    while True:
        issued = clock.now()
        run(len(latencies))
        latencies.append(clock.now() - issued)
        if extent.reached(len(latencies), issued - start):
            return latencies


def all_at_once(run: Run, extent: Extent, batch: int, clock: Clock) -> list[float]:
    """Offline: all samples exist from the start and run in full batches, the last one too.

    Returns the completion of each batch, in seconds from the start.
    """
    start, completions = clock.now(), list[float]()
    while not extent.reached(len(completions) * batch, clock.now() - start):
        run(len(completions))
        completions.append(clock.now() - start)
    return completions


def poisson_arrivals(rate: float, extent: Extent, seed: int) -> list[float]:
    """Server: the arrival of each query, the first at 0; `rate` of them per second on average."""
    arrivals = list[float]()
    for arrival in _poisson(rate, random.Random(seed)):
        arrivals.append(arrival)
        if extent.reached(len(arrivals), arrival):
            break
    return arrivals


def _poisson(rate: float, rng: random.Random) -> Iterator[float]:
    arrival = 0.0
    while True:
        yield arrival
        arrival += rng.expovariate(rate)


@dataclass(frozen=True)
class InOrder:
    """One device: first in, first out, one after another. Queries wait while it is busy."""

    run: Run
    clock: Clock

    def __call__(self, arrivals: Sequence[float]) -> list[float]:
        start, completions = self.clock.now(), list[float]()
        for number, arrival in enumerate(arrivals):
            self.clock.wait_until(start + arrival)
            self.run(number)
            completions.append(self.clock.now() - start)
        return completions
