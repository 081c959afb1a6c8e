"""The numbers of an int8 graph: steps of weights, biases and activations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from sdrt_engines import Array
from sdrt_export.quantizing.int8_weights import Int8Values
from sdrt_export.quantizing.ranges import Range
from sdrt_export.quantizing.recorded_calls import spread

pytestmark = pytest.mark.build

STEP = np.float32(0.5)


def values_of(*parts: Sequence[object]) -> Int8Values:
    return Int8Values(0, STEP, [np.array(part, np.float32) for part in parts])


def restored(values: Int8Values) -> Array:
    return values.weight_steps * values.weight_scales[:, None]


def test_a_weight_has_a_step_for_each_output_channel() -> None:
    values = values_of([[1.27, -0.5], [-254, 3]])
    np.testing.assert_allclose(values.weight_scales, [0.01, 2], rtol=1e-6)
    assert values.weight_steps.tolist() == [[127, -50], [-127, 2]]
    assert values.weight_steps.dtype == np.int8


def test_the_axis_of_a_product_is_the_last() -> None:
    values = Int8Values(1, STEP, [np.array([[1.27, -254], [-0.5, 3]], np.float32)])
    assert values.weight_steps.tolist() == [[127, -127], [-50, 2]]


def test_a_bias_counts_in_the_product_of_both_steps() -> None:
    values = values_of([[1.27, 0]], [0.25])
    np.testing.assert_allclose(values.bias_scales, [0.005], rtol=1e-6)
    assert values.bias_steps.tolist() == [50]
    assert values.bias_steps.dtype == np.int32


@pytest.mark.parametrize("weight", [0.0, 1e-12])
def test_a_bias_is_kept_where_the_weight_is_nothing(weight: float) -> None:
    values = values_of([[weight, 0], [1, 1]], [3.0, -2.0])
    np.testing.assert_allclose(values.bias_steps * values.bias_scales, [3, -2], rtol=1e-6)
    np.testing.assert_allclose(restored(values), [[0, 0], [1, 1]], atol=1e-6)


def test_a_channel_without_weights_is_zero() -> None:
    assert values_of([[0, 0]]).weight_steps.tolist() == [[0, 0]]


@pytest.mark.parametrize(("low", "high"), [(-1, 3), (0, 2), (-5, 0), (0, 0)])
def test_a_range_holds_zero_exactly_and_its_ends_nearly(low: float, high: float) -> None:
    found = Range(low, high, size=1)
    steps = np.clip(np.rint(np.array([low, 0, high]) / found.scale) + found.zero_point, 0, 255)
    restored = (steps - found.zero_point) * found.scale
    np.testing.assert_allclose(restored, [low, 0, high], atol=float(found.scale))
    assert restored[1] == 0


@pytest.mark.parametrize(
    ("count", "expected"), [(1, [0]), (2, [0, 9]), (4, [0, 3, 6, 9]), (20, list(range(10)))]
)
def test_items_are_spread_from_the_first_to_the_last(count: int, expected: list[int]) -> None:
    assert spread(range(10), count) == expected
