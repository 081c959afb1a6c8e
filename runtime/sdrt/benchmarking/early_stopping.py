"""The number of queries needed to trust a percentile: the early stopping of MLPerf's loadgen.

A percentile of few latencies says little about later ones. loadgen computes the probability that a
system which misses a bound too often has missed it so rarely by chance, and accepts less than 1 %
(`loadgen/early_stopping.cc`, `PerformanceSummary::EarlyStopping`).
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence

MAX_CHANCE = 0.01  # 1 - loadgen's confidence


def queries_needed(num_over: int, share: float) -> int:
    """The number of queries, `num_over` of them over a bound, that show a `share` within it.

    The least h + t of loadgen, for t queries over the bound.
    """
    fewest, enough = num_over + 1, 2 * (num_over + 1)
    while _chance(num_over, enough, share) >= MAX_CHANCE:
        fewest, enough = enough, 2 * enough
    candidates = range(fewest, enough)  # more queries make the chance smaller
    convincing = bisect_left(
        candidates, True, key=lambda number: _chance(num_over, number, share) < MAX_CHANCE
    )
    return fewest + convincing


def trusted_percentile(ordered: Sequence[float], share: float) -> float | None:
    """A latency that a `share` of all latencies do not exceed; None if there are too few.

    The worst are discarded, one fewer than may exceed a bound among so many queries.
    """
    num_over = 0
    while queries_needed(num_over + 1, share) <= len(ordered):
        num_over += 1
    return ordered[-num_over] if num_over else None


def _chance(num_over: int, number: int, share: float) -> float:
    """The probability that at most `num_over` of `number` queries are over a bound which exactly
    the `share` of all queries meet: the cumulative binomial distribution.
    """
    within, over = math.log(share), math.log1p(-share)
    return math.fsum(
        math.exp(_log_binomial(number, k) + k * over + (number - k) * within)
        for k in range(num_over + 1)
    )


def _log_binomial(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
