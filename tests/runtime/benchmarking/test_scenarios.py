from __future__ import annotations

import math
import time
from itertools import pairwise

import pytest

from sdrt.benchmarking.scenarios import (
    Extent,
    InOrder,
    WallClock,
    all_at_once,
    one_by_one,
    poisson_arrivals,
)
from support.simulated_clock import SimulatedClock


def test_one_by_one_makes_as_many_queries_as_asked_for() -> None:
    clock = SimulatedClock()
    assert one_by_one(clock.serving([2.0, 3.0]), Extent(3), clock) == [2.0, 3.0, 2.0]


def test_one_by_one_continues_until_the_last_query_is_made_late_enough() -> None:
    clock = SimulatedClock()
    latencies = one_by_one(clock.serving([2.0]), Extent(1, duration=5.0), clock)
    assert latencies == [2.0] * 4  # sent at 0, 2, 4 and 6


def test_all_at_once_runs_full_batches() -> None:
    clock = SimulatedClock()
    assert all_at_once(clock.serving([4.0]), Extent(5), batch=2, clock=clock) == [4.0, 8.0, 12.0]


def test_all_at_once_continues_for_the_duration() -> None:
    clock = SimulatedClock()
    completions = all_at_once(clock.serving([4.0]), Extent(1, duration=7.0), batch=2, clock=clock)
    assert completions == [4.0, 8.0]


def test_arrivals_are_those_of_their_seed() -> None:
    arrivals = poisson_arrivals(2.0, Extent(50), seed=3)
    assert arrivals == poisson_arrivals(2.0, Extent(50), seed=3)
    assert arrivals != poisson_arrivals(2.0, Extent(50), seed=4)
    assert len(arrivals) == 50
    assert arrivals[0] == 0
    assert arrivals == sorted(arrivals)


def test_arrivals_are_a_poisson_process() -> None:
    """Gaps have the mean 1/rate, and a share of 1/e of them is longer than that."""
    gaps = [b - a for a, b in pairwise(poisson_arrivals(4.0, Extent(20001), seed=0))]
    assert sum(gaps) / len(gaps) == pytest.approx(0.25, rel=0.02)
    assert sum(gap > 0.25 for gap in gaps) / len(gaps) == pytest.approx(1 / math.e, rel=0.02)


def test_arrivals_go_on_for_the_duration() -> None:
    *others, last = poisson_arrivals(1.0, Extent(2, duration=30.0), seed=0)
    assert last >= 30.0 > others[-1]


def test_queries_wait_for_those_before_them() -> None:
    clock = SimulatedClock()
    serve = InOrder(clock.serving([3.0]), clock)
    assert serve([0.0, 1.0, 2.0, 20.0]) == [3.0, 6.0, 9.0, 23.0]


def test_a_queue_is_lindley_s() -> None:
    """Each begins when it has arrived and the previous one is served, whichever is later."""
    clock, seconds = SimulatedClock(), [0.3, 1.7, 0.9]
    arrivals = poisson_arrivals(1.0, Extent(100), seed=1)
    completions = InOrder(clock.serving(seconds), clock)(arrivals)
    free = 0.0
    for number, (arrival, completion) in enumerate(zip(arrivals, completions, strict=True)):
        free = max(arrival, free) + seconds[number % 3]
        assert completion == pytest.approx(free)


def test_the_wall_clock_waits_until_the_moment_and_not_for_the_past() -> None:
    clock = WallClock()
    moment = clock.now() + 0.01
    clock.wait_until(moment)
    assert moment <= clock.now() <= time.perf_counter()
    clock.wait_until(moment - 1000)
