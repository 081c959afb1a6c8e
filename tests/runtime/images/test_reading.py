"""Input images: every mode and kind of file, and files that cannot be read."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdrt.errors import RequestError
from sdrt.images.reading import array_from_image, input_image_from_source
from support.images import colours, sample_image

GREY = (128, 128, 128)


def read(source: Any) -> Image.Image:
    return input_image_from_source(source, "image").image


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (Image.new("1", (3, 2), 1), (255, 255, 255)),
        (Image.new("L", (3, 2), 128), GREY),
        (Image.new("LA", (3, 2), (0, 0)), (255, 255, 255)),  # transparent lies on white
        (Image.new("LA", (3, 2), (128, 255)), GREY),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 0)), (255, 255, 255)),
        (Image.new("RGBA", (3, 2), (255, 0, 0, 51)), (255, 204, 204)),
        (Image.new("RGB", (3, 2), (1, 2, 3)).convert("P"), (0, 0, 0)),
        (Image.new("CMYK", (3, 2), (0, 255, 255, 0)), (255, 0, 0)),
        (Image.new("HSV", (3, 2), (0, 0, 128)), GREY),
        (Image.fromarray(np.full((2, 3), 0x80FF, np.uint16)), GREY),
        (Image.fromarray(np.full((2, 3), 0x80FF, np.int32)), GREY),
        (Image.fromarray(np.full((2, 3), 70000, np.int32)), (255, 255, 255)),
        (Image.fromarray(np.full((2, 3), 127.6, np.float32)), GREY),
        (Image.fromarray(np.full((2, 3), np.inf, np.float32)), (255, 255, 255)),
    ],
    ids=lambda value: value.mode if isinstance(value, Image.Image) else str(value),
)
def test_every_mode_becomes_rgb(image: Image.Image, expected: tuple[int, int, int]) -> None:
    assert colours(read(image)) == {expected}


def test_a_transparent_colour_of_a_palette_lies_on_white(tmp_path: Path) -> None:
    Image.new("P", (2, 2)).save(tmp_path / "a.png", transparency=0)
    assert colours(read(tmp_path / "a.png")) == {(255, 255, 255)}


def test_images_are_turned_as_their_exif_says(tmp_path: Path) -> None:
    upright = sample_image(16, 24)
    exif = Image.Exif()
    exif[0x0112] = 6  # stored on its side
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), upright)
    with Image.open(tmp_path / "a.png") as opened:
        np.testing.assert_array_equal(read(opened), upright)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png"])
def test_of_an_animation_the_first_image_is_taken(tmp_path: Path, suffix: str) -> None:
    red, blue = Image.new("RGB", (8, 8), "red"), Image.new("RGB", (8, 8), "blue")
    options: dict[str, Any] = {"lossless": True} if suffix == "webp" else {}
    red.save(tmp_path / f"a.{suffix}", save_all=True, append_images=[blue], **options)
    assert colours(read(tmp_path / f"a.{suffix}")) == {(255, 0, 0)}


def test_paths_are_kept(tmp_path: Path) -> None:
    sample_image(4, 4).save(tmp_path / "a.png")
    for path in (tmp_path / "a.png", str(tmp_path / "a.png")):
        assert input_image_from_source(path, "image").path == str(tmp_path / "a.png")
    given = input_image_from_source(tmp_path / "a.png", "image")
    assert input_image_from_source(given, "image") is given
    assert repr(given) == f"<InputImage 4×4 {tmp_path / 'a.png'}>"
    assert repr(input_image_from_source(sample_image(4, 4), "image")) == "<InputImage 4×4>"


def test_a_callers_image_may_change_later() -> None:
    image = Image.new("RGB", (2, 2), "red")
    taken = read(image)
    image.paste("blue", (0, 0, 2, 2))
    assert colours(taken) == {(255, 0, 0)}


# --- files that cannot be read


def gone(path: Path) -> None:
    pass


def a_folder(path: Path) -> None:
    path.mkdir()


def an_empty_file(path: Path) -> None:
    path.touch()


def a_text(path: Path) -> None:
    path.write_text("a red circle")


def half_a_png(path: Path) -> None:
    sample_image(64, 64).save(path, "PNG")
    path.write_bytes(path.read_bytes()[:6000])


def half_a_jpeg(path: Path) -> None:
    sample_image(64, 64).save(path, "JPEG")
    path.write_bytes(path.read_bytes()[:2000])


def a_hundred_megapixels(path: Path) -> None:
    Image.new("1", (10_000, 10_000)).save(path, "PNG")  # 12 KB


def four_hundred_megapixels(path: Path) -> None:
    Image.new("1", (20_000, 20_000)).save(path, "PNG")


BROKEN = [
    (gone, "cannot be read: No such file or directory: give the path of an image"),
    (a_folder, "cannot be read: Is a directory: give the path of an image"),
    (an_empty_file, "is not an image that Pillow can read, or it is broken"),
    (a_text, "is not an image that Pillow can read, or it is broken"),
    (half_a_png, "cannot be read: image file is truncated"),
    (half_a_jpeg, "cannot be read: image file is truncated"),
    (four_hundred_megapixels, "is too large: expected 67 megapixels at most: reduce its size"),
]


@pytest.mark.parametrize(("write", "message"), BROKEN)
def test_a_file_that_is_not_an_image_is_reported(
    write: Callable[[Path], None], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "in.img"
    write(path)
    with pytest.raises(RequestError) as caught:
        read(path)
    assert str(caught.value).startswith(f"image: '{path}' {message}")


def test_an_image_that_unfolds_to_too_much_is_not_unfolded(tmp_path: Path) -> None:
    a_hundred_megapixels(tmp_path / "in.png")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's own limit is higher
        with pytest.raises(RequestError, match="got 10000×10000 pixels: expected 67 megapixels"):
            read(tmp_path / "in.png")
    with pytest.raises(RequestError, match="is too large: expected 67 megapixels at most"):
        read(tmp_path / "in.png")  # where warnings are errors


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("", "image: '' cannot be read: Is a directory"),
        ("a\0b", "cannot be read: embedded null"),
        (5, "image: got an object of type int, expected a PIL image or the path of an image"),
        (np.zeros((8, 8, 3)), "image: got an object of type ndarray, expected a PIL image"),
        (Image.new("RGB", (0, 5)), "image: got 0×5 pixels, expected at least one"),
        (Image.new("La", (2, 2)), "image: the image cannot be read: conversion from La to"),
        (
            Image.fromarray(np.full((2, 2), np.nan, np.float32)),
            "image: the image cannot be read: it holds NaN: give an image that is not damaged",
        ),
    ],
)
def test_a_wrong_type_of_image_is_reported(source: object, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        read(source)
    assert message in str(caught.value)


def test_an_image_that_a_caller_opened_can_be_broken_too(tmp_path: Path) -> None:
    half_a_jpeg(tmp_path / "in.jpg")
    with (
        Image.open(tmp_path / "in.jpg") as image,
        pytest.raises(RequestError, match="image: the image cannot be read: image file is trunc"),
    ):
        read(image)


def test_arrays_are_of_channels_first() -> None:
    image = sample_image(6, 4)
    array = array_from_image(image)
    assert (array.shape, array.dtype) == ((1, 3, 4, 6), np.dtype(np.float32))
    np.testing.assert_array_equal(array[0, :, 1, 2] * 255, np.asarray(image)[1, 2])
    assert array_from_image(image.convert("L")).shape == (1, 1, 4, 6)
