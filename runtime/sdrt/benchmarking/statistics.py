"""Percentiles, and the statistics in a row."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

MIN_SAMPLES_OF_P99 = 100  # with fewer, p99 is just the worst sample


def percentile(ordered: Sequence[float], share: float) -> float:
    """The sample above a `share` of the others, without interpolation.

    The definition in MLPerf's loadgen (`PerformanceSummary::ProcessLatencies`), with the same
    rounding of the product: number ⌊n × share⌋ of the sorted samples, counted from 0.
    """
    return ordered[int(len(ordered) * share)]


@dataclass(frozen=True)
class Summary:
    """The statistics of some samples. Percentiles describe the worse end.

    So the p90 of seconds is high and the p90 of images per second is low; `minimum` and `quartiles`
    are in numerical order.
    """

    num_samples: int
    p50: float
    p90: float
    p99: float | None  # None: too few samples
    minimum: float
    quartiles: tuple[float, float]  # the middle half of the samples lies between them


def summary_of(values: Sequence[float], *, higher_is_better: bool = False) -> Summary:
    """The statistics of at least one sample."""
    ordered = sorted(values, reverse=higher_is_better)
    low, high = sorted((percentile(ordered, 0.25), percentile(ordered, 0.75)))
    return Summary(
        num_samples=len(ordered),
        p50=percentile(ordered, 0.5),
        p90=percentile(ordered, 0.9),
        p99=percentile(ordered, 0.99) if len(ordered) >= MIN_SAMPLES_OF_P99 else None,
        minimum=min(ordered),
        quartiles=(low, high),
    )
