"""Masks: the generated part, the cropped box, and the pixels that stay exactly."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from sdrt.errors import RequestError
from sdrt.images.framing import Frame
from sdrt.images.masks import (
    crop_box,
    latent_mask,
    mask_from_image,
    mask_from_source,
    paste_back,
)
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
    ],
)
def test_the_box_around_a_mask(
    box: tuple[int, int, int, int],
    size: tuple[int, int],
    padding: int,
    expected: tuple[int, int, int, int],
) -> None:
    assert crop_box(mask(100, 80, box), size, padding) == expected


def test_stray_pixels_do_not_count_for_the_box() -> None:
    drawn = mask(512, 512, (200, 200, 240, 240))
    drawn.putpixel((3, 3), 1)
    drawn.putpixel((508, 505), 127)
    assert crop_box(drawn, (512, 512), 16) == (184, 184, 256, 256)
    assert crop_box(drawn, (512, 512), 16, threshold=1) == (0, 0, 512, 512)  # diffusers'


@pytest.mark.parametrize(
    ("grey", "reason"),
    [
        (0, "it is black everywhere, expected white (from 128 on) where to generate"),
        (1, "its greatest value is 1 of 255: save a mask of 0 and 1 as one of 0 and 255"),
        (127, "its lightest grey is 127, expected white (from 128 on) where to generate"),
    ],
)
def test_a_mask_without_white_has_no_box(grey: int, reason: str) -> None:
    with pytest.raises(RequestError) as caught:
        crop_box(Image.new("L", (8, 8), grey), (64, 64), 4)
    message = f"mask_image: {reason}, so padding_mask_crop has nothing to cut out"
    assert str(caught.value) == message


# --- masks with transparency

BOX = (16, 16, 32, 32)


def brush(mode: str, ground: int, stroke: int) -> Image.Image:
    """An opaque square of the grey `stroke` on a transparent ground of the grey `ground`."""
    grey, alpha = Image.new("L", (64, 64), ground), mask(64, 64, BOX)
    grey.paste(stroke, BOX)
    return Image.merge(mode, [*[grey] * (len(mode) - 1), alpha])


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
@pytest.mark.parametrize("ground", [0, 255])
def test_a_white_brush_on_a_transparent_ground_is_the_mask(mode: str, ground: int) -> None:
    read = mask_from_source(brush(mode, ground, 255), "mask_image").image
    assert read.mode == "L"
    np.testing.assert_array_equal(read, mask(64, 64, BOX))


def test_a_soft_brush_is_light_times_alpha() -> None:
    drawn = brush("LA", 255, 200)
    drawn.putalpha(drawn.getchannel("A").point(lambda alpha: alpha and 199))
    read = mask_from_source(drawn, "mask_image").image
    assert np.asarray(read).max() == 156  # 200 × 199 / 255


def test_a_transparent_palette_is_read_too(tmp_path: Path) -> None:
    mask(64, 64, BOX).convert("P").save(tmp_path / "a.png", transparency=0)
    read = mask_from_source(tmp_path / "a.png", "mask_image")
    np.testing.assert_array_equal(read.image, mask(64, 64, BOX))
    assert read.path == str(tmp_path / "a.png")


def test_without_transparent_parts_alpha_says_nothing() -> None:
    drawn = mask(64, 64, BOX)
    drawn = Image.merge("LA", [drawn, Image.new("L", (64, 64), 255)])
    np.testing.assert_array_equal(mask_from_source(drawn, "mask_image").image, mask(64, 64, BOX))


@pytest.mark.parametrize(
    ("ground", "stroke", "alpha"),
    [
        (0, 0, None),  # a dark brush
        (255, 100, None),
        (255, 255, 0),  # nothing is visible
    ],
)
def test_a_mask_with_two_readings_is_refused(ground: int, stroke: int, alpha: int | None) -> None:
    drawn = brush("LA", ground, stroke)
    if alpha is not None:
        drawn.putalpha(alpha)
    with pytest.raises(RequestError, match="transparent, which may mean black or white") as caught:
        mask_from_source(drawn, "mask_image")
    assert "save it without transparency, white where to generate" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_black_mask_with_a_hole_is_refused() -> None:
    hole = ImageOps.invert(mask(64, 64, BOX))
    drawn = Image.merge("LA", [Image.new("L", (64, 64)), hole])
    with pytest.raises(RequestError, match="6% of it is transparent"):
        mask_from_source(drawn, "mask_image")


@pytest.mark.parametrize(
    "pixels",
    [
        np.asarray(mask(64, 64, BOX)) > 0,
        np.asarray(mask(64, 64, BOX)).astype(np.float32) / 255,
        np.asarray(mask(64, 64, BOX)).astype(np.uint16) * 257,
    ],
    ids=["boolean", "float", "16 bits"],
)
def test_masks_of_other_numbers(pixels: np.ndarray) -> None:
    read = mask_from_source(Image.fromarray(pixels), "mask_image").image
    np.testing.assert_array_equal(read, mask(64, 64, BOX))


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
