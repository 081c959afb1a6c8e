"""Sizes that follow from others."""

from __future__ import annotations

import pytest

from sdrt_engines import TensorError, shape_at
from support.onnx_writer import spec

SIZES = {"B": 2, "height": 9, "width": 16}


@pytest.mark.parametrize(
    ("dim", "size"),
    [
        (3, 3),
        ("B", 2),
        ("height", 9),
        ("8*height", 72),
        ("1*width", 16),
        ("width/8", 2),
        ("ceil(height/2)", 5),
        ("ceil(width/2)", 8),
        ("ceil(height/16)", 1),
    ],
)
def test_a_dimension_follows_from_the_sizes(dim: int | str, size: int) -> None:
    assert shape_at(spec("x", "float32", "B", dim), SIZES) == (2, size)


def test_a_dimension_that_is_known_by_its_whole_name_is_taken() -> None:
    assert shape_at(spec("x", "float32", "8*height"), {"8*height": 7}) == (7,)


def test_a_scalar_has_no_dimensions() -> None:
    assert shape_at(spec("x", "float32"), {}) == ()


@pytest.mark.parametrize(
    ("dim", "message"),
    [
        ("depth", "tensor 'x': the size of 'depth' does not follow from B, height, width: give it"),
        ("8*depth", "the size of '8*depth' does not follow"),
        ("height-1", "the size of 'height-1' does not follow"),
        ("floor(height/2)", "the size of 'floor(height/2)' does not follow"),
        ("height/0", "the size of 'height/0' does not follow"),
        ("ceil(height/0)", "the size of 'ceil(height/0)' does not follow"),
        ("0*height", "the size of '0*height' does not follow"),
        ("height/2", "tensor 'x': height is 9, expected a multiple of 2"),
    ],
)
def test_a_dimension_that_does_not_follow_is_told(dim: str, message: str) -> None:
    with pytest.raises(TensorError) as caught:
        shape_at(spec("x", "float32", dim), SIZES)
    assert message in str(caught.value)


def test_without_any_sizes() -> None:
    with pytest.raises(TensorError, match="the size of 'B' does not follow from nothing: give it"):
        shape_at(spec("x", "float32", "B"), {})
