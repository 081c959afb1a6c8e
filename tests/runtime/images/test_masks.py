"""Masks: the generated part, the cropped box, and the pixels that stay exactly."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from sdrt.images.framing import Frame
from sdrt.images.masks import crop_box, latent_mask, mask_from_image, paste_back
from support.images import mask, sample_image


def test_a_mask_is_ones_where_it_is_white() -> None:
    drawn = mask(32, 16, (8, 0, 24, 16))
    array = mask_from_image(drawn, Frame((32, 16)))
    assert (array.shape, array.dtype) == ((1, 1, 16, 32), np.dtype(np.float32))
    np.testing.assert_array_equal(array[0, 0], np.asarray(drawn) / 255)


@pytest.mark.parametrize(("grey", "painted"), [(0, 0), (127, 0), (128, 1), (255, 1)])
def test_grey_is_painted_from_one_half_on(grey: int, painted: int) -> None:
    array = mask_from_image(Image.new("RGB", (8, 8), (grey,) * 3), Frame((8, 8)))
    assert np.unique(array) == painted


def test_the_upper_left_pixel_decides_for_a_latent() -> None:
    array = mask_from_image(mask(32, 16, (0, 0, 9, 9)), Frame((32, 16)))
    np.testing.assert_array_equal(latent_mask(array, 8)[0, 0], [[1, 1, 0, 0], [1, 1, 0, 0]])


@pytest.mark.parametrize(
    ("box", "size", "padding", "expected"),
    [
        ((20, 30, 40, 50), (64, 64), 0, (20, 30, 40, 50)),
        ((20, 30, 40, 50), (64, 64), 5, (15, 25, 45, 55)),
        ((20, 30, 40, 50), (64, 32), 0, (10, 30, 50, 50)),  # widened
        ((20, 30, 40, 50), (32, 64), 0, (20, 20, 40, 60)),  # heightened
        ((0, 0, 10, 20), (64, 64), 0, (0, 0, 20, 20)),  # moved into the image
        ((90, 70, 100, 80), (64, 64), 5, (85, 65, 100, 80)),
        ((0, 0, 100, 80), (64, 64), 9, (0, 0, 100, 80)),  # as far as it fits
        ((50, 40, 51, 41), (64, 64), 0, (50, 40, 51, 41)),
        ((0, 0, 0, 0), (64, 64), 7, (0, 0, 100, 80)),  # nothing is white
    ],
)
def test_the_box_around_a_mask(
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    padding: int,
    expected: tuple[int, int, int, int],
) -> None:
    assert crop_box(mask(100, 80, box), size, padding) == expected


def test_the_generated_part_is_pasted_back_where_the_mask_is_white() -> None:
    image, drawn = sample_image(100, 80), Image.new("RGB", (64, 64), "red")
    white = mask(100, 80, (20, 30, 40, 50))
    pasted = np.asarray(paste_back(drawn, image, white, (10, 20, 50, 60)))
    painted = np.asarray(white) > 0
    assert (pasted[painted] == [255, 0, 0]).all()
    np.testing.assert_array_equal(pasted[~painted], np.asarray(image)[~painted])


def test_grey_is_blended_when_pasted_back() -> None:
    black, white = Image.new("RGB", (8, 8)), Image.new("RGB", (8, 8), "white")
    pasted = paste_back(white, black, Image.new("L", (8, 8), 100), (0, 0, 8, 8))
    assert np.unique(np.asarray(pasted)) == 100
