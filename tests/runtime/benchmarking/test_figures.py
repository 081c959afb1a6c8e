from __future__ import annotations

import pytest

from sdrt.benchmarking.figures import Figure, Unit, quantity, row_of


def test_a_row_says_all_of_its_samples() -> None:
    figure = Figure("image", "s", (0.25, 0.5, 0.3333333333), "cpu", notes={"part_of": "all"})
    assert row_of(figure) == {
        "name": "image",
        "unit": "s",
        "num_samples": 3,
        "p50": 0.333333,
        "p90": 0.5,
        "min": 0.25,
        "quartiles": [0.25, 0.5],
        "target": "cpu",
        "notes": {"part_of": "all"},
    }


def test_a_hundred_samples_have_a_p99() -> None:
    assert row_of(Figure("step", "s", tuple(map(float, range(100))), "cpu"))["p99"] == 99


def test_a_row_of_what_was_refused_holds_the_reason_and_no_figure() -> None:
    figure = Figure("batch 8", "images/s", (), "cuda", refusal="unet: out of memory")
    assert row_of(figure) == {
        "name": "batch 8",
        "unit": "images/s",
        "num_samples": 0,
        "target": "cuda",
        "refusal": "unet: out of memory",
    }


def test_the_p90_of_a_rate_is_a_low_one() -> None:
    row = row_of(Figure("batch 1", "images/s", tuple(map(float, range(1, 11))), "cpu"))
    assert (row["p50"], row["p90"], row["min"]) == (5, 1, 1)


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.00123456, "s", "1.23 ms"),
        (0.1234, "s", "123 ms"),
        (0.9999, "s", "1,000 ms"),
        (12.0, "s", "12.0 s"),
        (1234.5, "MB", "1,234 MB"),
        (0.5, "images/s", "0.500 images/s"),
    ],
)
def test_for_reading(value: float, unit: Unit, text: str) -> None:
    assert quantity(value, unit) == text
