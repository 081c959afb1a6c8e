from __future__ import annotations

from math import comb

import pytest

from sdrt.benchmarking.early_stopping import queries_needed, trusted_percentile


def convinces(num_over: int, number: int, percent: int) -> bool:
    """True if chance gives so few over the bound less than once in 100 times; in integers."""
    ways = sum(
        comb(number, k) * (100 - percent) ** k * percent ** (number - k)
        for k in range(num_over + 1)
    )
    return bool(100 * ways < 100**number)


@pytest.mark.parametrize(
    ("num_over", "share", "expected"),
    [
        (0, 0.99, 459),  # 0.99^459 < 0.01 < 0.99^458
        (1, 0.9, 64),  # loadgen's minimum for SingleStream
        (1, 0.99, 662),  # and of MultiStream: `min_query_count` in mlperf.conf
    ],
)
def test_loadgen_s_own_numbers(num_over: int, share: float, expected: int) -> None:
    assert queries_needed(num_over, share) == expected


@pytest.mark.parametrize("num_over", range(8))
def test_every_number_of_queries_tried(num_over: int) -> None:
    number = num_over + 1
    while not convinces(num_over, number, 90):
        number += 1
    assert queries_needed(num_over, 0.9) == number


@pytest.mark.parametrize("num_over", [0, 1, 2, 10, 40])
def test_one_query_fewer_does_not_convince(num_over: int) -> None:
    needed = queries_needed(num_over, 0.99)
    assert convinces(num_over, needed, 99)
    assert not convinces(num_over, needed - 1, 99)


def test_too_few_latencies_are_not_trusted() -> None:
    assert trusted_percentile(range(63), 0.9) is None
    assert trusted_percentile(range(64), 0.9) == 63  # the worst of them


@pytest.mark.parametrize("number", [100, 300, 1000])
def test_as_many_are_discarded_as_convince(number: int) -> None:
    num_over = max(t for t in range(1, number) if t < number / 5 and convinces(t, number, 90))
    assert trusted_percentile(range(number), 0.9) == number - num_over
