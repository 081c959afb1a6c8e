from __future__ import annotations

import pytest

from sdrt.benchmarking.statistics import percentile, summary_of

TEN = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0]


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([7.0], 0.99, 7.0),
        ([1.0, 2.0], 0.5, 2.0),
        ([1.0, 2.0, 3.0], 0.5, 2.0),
        (TEN, 0.25, 3.0),
        (TEN, 0.5, 6.0),
        (TEN, 0.9, 10.0),
        (TEN, 0.99, 10.0),
    ],
)
def test_by_hand(values: list[float], share: float, expected: float) -> None:
    assert percentile(values, share) == expected


@pytest.mark.parametrize("percent", [25, 50, 75, 90, 99])
def test_so_many_samples_lie_before_it(percent: int) -> None:
    """In integers: rounding of the product never selects another sample."""
    for n in range(1, 400):
        num_before = sum(100 * k <= percent * n for k in range(1, n + 1))
        assert percentile(range(n), percent / 100) == num_before


def test_a_summary_sorts_its_samples() -> None:
    summary = summary_of([3.0, 1.0, 2.0, 5.0, 4.0])
    assert (summary.num_samples, summary.p50, summary.p90) == (5, 3.0, 5.0)
    assert (summary.minimum, summary.quartiles) == (1.0, (2.0, 4.0))


def test_the_worst_samples_of_a_rate_are_the_low_ones() -> None:
    seconds = [0.5, 0.1, 0.2, 0.25, 1.0]
    times, rates = summary_of(seconds), summary_of([1 / s for s in seconds], higher_is_better=True)
    assert (rates.p50, rates.p90) == (1 / times.p50, 1 / times.p90)
    assert (rates.minimum, rates.quartiles) == (1.0, (2.0, 5.0))


def test_p99_needs_a_hundred_samples() -> None:
    assert summary_of(range(99)).p99 is None
    assert summary_of(range(100)).p99 == 99
    assert summary_of(range(200)).p99 == 198
