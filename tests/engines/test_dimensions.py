"""Sizes that follow from others."""

from __future__ import annotations

import pytest

from sdrt_engines import TensorError, shape_at, size_of
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
        (
            "depth",
            "tensor 'x': the size of 'depth' does not follow from B 2, height 9, width 16: give it",
        ),
        ("8*depth", "the size of '8*depth' does not follow"),
        ("height-1", "the size of 'height-1' does not follow"),
        ("floor(height/2)", "the size of 'floor(height/2)' does not follow"),
        ("height/0", "the size of 'height/0' does not follow"),
        ("ceil(height/0)", "the size of 'ceil(height/0)' does not follow"),
        ("0*height", "the size of '0*height' does not follow"),
        ("height/2", "the size of 'height/2' does not follow from B 2, height 9"),
    ],
)
def test_a_dimension_that_does_not_follow_is_reported(dim: str, message: str) -> None:
    with pytest.raises(TensorError) as caught:
        shape_at(spec("x", "float32", dim), SIZES)
    assert message in str(caught.value)


def test_without_any_sizes() -> None:
    with pytest.raises(TensorError, match="the size of 'B' does not follow from nothing: give it"):
        shape_at(spec("x", "float32", "B"), {})


@pytest.mark.parametrize(
    ("dim", "size"),
    [
        (4, 4),
        ("h", 9),
        ("8*h", 72),
        ("h/3", 3),
        ("ceil(h/2)", 5),
        ("ceil(h/3)", 3),
        ("h/8", None),
        ("w", None),
        ("8*w", None),
        ("h+1", None),
        ("ceil(h/2", None),
        ("h/2)", None),
        ("", None),
    ],
)
def test_a_size_may_be_computed_from_another(dim: int | str, size: int | None) -> None:
    assert size_of(dim, {"h": 9, "B": 2}) == size


def test_a_name_that_looks_computed_may_be_known_itself() -> None:
    assert size_of("8*h", {"8*h": 5, "h": 9}) == 5
