"""Sizes: every size becomes every other, in each way of resizing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sdrt.images.framing import Frame, disproportion, fitted, same_proportions
from sdrt.parameters import Resize
from support.images import colours, mask, sample_image


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("size", [(1, 1), (1, 9), (300, 7), (64, 64)])
@pytest.mark.parametrize("target", [(64, 64), (8, 96), (15, 33)])
def test_every_size_becomes_every_other(
    resize: Resize, size: tuple[int, int], target: tuple[int, int]
) -> None:
    white = Image.new("RGB", size, "white")
    resized = fitted(white, target, resize)
    assert resized.size == target
    assert colours(resized) == {(255, 255, 255)}  # no border stays black


def test_each_way_of_resizing() -> None:
    left_half = mask(80, 40, (0, 0, 40, 40)).convert("RGB")
    stretched, cut, padded = (
        np.asarray(fitted(left_half, (40, 40), way))[..., 0] > 127
        for way in ("stretch", "crop", "pad")
    )
    for wide in (stretched, cut):
        np.testing.assert_array_equal(wide, np.arange(40) < np.full((40, 1), 20))
    np.testing.assert_array_equal(padded, np.arange(40) < np.full((40, 1), 20))
    three_quarters = mask(80, 40, (0, 0, 60, 40)).convert("RGB")
    widths = [
        (np.asarray(fitted(three_quarters, (40, 40), way))[20, :, 0] > 127).sum()
        for way in ("stretch", "crop", "pad")
    ]
    assert widths == [30, 40, 30]


def test_a_frame_cuts_out_its_box() -> None:
    image = sample_image(64, 64)
    framed = Frame((16, 24), box=(8, 16, 24, 40))(image)
    np.testing.assert_array_equal(framed, image.crop((8, 16, 24, 40)))
    assert Frame((16, 24))(image).size == (16, 24)


@pytest.mark.parametrize(
    ("size", "target", "same"),
    [
        ((512, 512), (512, 512), True),
        ((500, 333), (496, 328), True),  # cut to whole latents
        ((300, 1000), (296, 1000), True),
        ((7, 5), (8, 8), True),
        ((4000, 3000), (512, 384), True),
        ((4000, 3000), (512, 512), False),
        ((4000, 3000), (512, 408), False),
        ((3000, 4000), (408, 512), False),
        ((512, 512), (512, 528), False),
    ],
)
def test_proportions_may_differ_by_less_than_a_latent(
    size: tuple[int, int], target: tuple[int, int], same: bool
) -> None:
    assert same_proportions(size, target, 8) is same


@pytest.mark.parametrize("width", [*range(1, 40), 299, 300, 301, 1023])
@pytest.mark.parametrize("height", [1, 9, 500, 1001])
def test_an_image_fits_its_own_size_in_whole_latents(width: int, height: int) -> None:
    whole = (max(width // 8, 1) * 8, max(height // 8, 1) * 8)
    assert same_proportions((width, height), whole, 8)


def test_disproportion_is_the_same_both_ways() -> None:
    assert disproportion((1, 4), (2, 2)) == disproportion((4, 1), (2, 2)) == 4
    assert disproportion((3, 5), (6, 10)) == 1
