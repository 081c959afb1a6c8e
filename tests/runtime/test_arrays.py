"""The distance between two arrays."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sdrt.arrays import psnr_of

RAMP = np.linspace(-1, 1, 101, dtype=np.float32)


def test_equal_arrays_are_infinitely_near() -> None:
    assert psnr_of(RAMP, RAMP.copy()) == math.inf
    assert psnr_of(RAMP[:0], RAMP[:0]) == math.inf


@pytest.mark.parametrize(("error", "decibels"), [(0.2, 20), (0.02, 40), (0.002, 60)])
@pytest.mark.parametrize("scale", [1, 1000])
def test_an_error_counts_by_the_range(error: float, decibels: float, scale: float) -> None:
    expected = RAMP * np.float32(scale)
    got = expected + np.float32(error * scale)
    assert psnr_of(expected, got) == pytest.approx(decibels, abs=0.01)


def test_a_flat_array_has_a_range_of_one() -> None:
    assert psnr_of(np.zeros(4, np.float32), np.full(4, 0.1, np.float32)) == pytest.approx(20)


def test_halves_are_compared_in_full() -> None:
    assert psnr_of(RAMP, RAMP.astype(np.float16)) > 70
