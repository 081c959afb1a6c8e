"""Valid and invalid settings of a ControlNet."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdrt.control import Control
from sdrt.errors import RequestError
from sdrt.images.framing import Frame
from sdrt_engines import Array
from support.images import sample_image

EDGES = sample_image(32, 16)
FRAME = Frame((32, 16))


# --- what may be asked


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"scale": math.nan}, "control scale: got nan, expected a number from -10 to 10"),
        ({"scale": math.inf}, "control scale: got inf"),
        ({"scale": -11}, "control scale: got -11"),
        ({"scale": "1"}, "control scale: got '1'"),
        ({"scale": True}, "control scale: got True"),
        ({"scale": None}, "control scale: got None"),
        ({"start": -0.1}, "control start: got -0.1, expected a number from 0 to 1"),
        ({"start": math.nan}, "control start: got nan"),
        ({"end": 1.5}, "control end: got 1.5, expected a number from 0 to 1"),
        ({"start": 0.6, "end": 0.6}, "control window: got start 0.6 and end 0.6, expected a start"),
        ({"start": 1}, "control window: got start 1 and end 1"),
        ({"annotate": "cany"}, "annotator: got 'cany', did you mean 'canny'?"),
        ({"annotate": ["canny"]}, "annotator: got ['canny'], "),
        (
            {"image": None},
            "control image: got an object of type NoneType, expected a PIL image or the path",
        ),
        ({"image": "gone.png"}, "control image: 'gone.png' cannot be read: No such file"),
        ({"image": np.zeros((8, 8))}, "control image: got an array float64 (8, 8), expected"),
        ({"image": np.zeros((0, 8, 3))}, "control image: got an array float64 (0, 8, 3)"),
        ({"image": np.full((8, 8, 3), "x")}, "control image: got an array <U1 (8, 8, 3)"),
        ({"image": np.full((8, 8, 3), 255, np.uint8)}, "with values from 255 to 255, expected 0"),
        ({"image": np.full((8, 8, 3), -0.1)}, "divide bytes by 255"),
        ({"image": np.full((8, 8, 3), np.nan)}, "with values from nan to nan, expected 0 to 1"),
        (
            {"image": np.zeros((8, 8, 3)), "annotate": "canny"},
            "control: got an annotator for an array, expected an image",
        ),
    ],
)
def test_impossible_controls_are_refused(keywords: dict[str, Any], message: str) -> None:
    with pytest.raises(RequestError) as caught:
        Control(**{"image": EDGES} | keywords)
    assert message in str(caught.value)


def test_an_array_that_changes_later_does_not_change_the_control() -> None:
    array = np.zeros((16, 32, 1), np.float32)
    given = Control(array)
    array[:] = 1
    conditioning = given.conditioning(1, FRAME)
    assert not conditioning.any()


def test_a_path_is_kept(tmp_path: Path) -> None:
    EDGES.save(tmp_path / "edges.png")
    given = Control(tmp_path / "edges.png")
    assert given.input_image is not None
    assert given.input_image.path == str(tmp_path / "edges.png")
    assert given.size == (32, 16)


# --- windows


def active(num_steps: int, **window: Any) -> list[int]:
    given = Control(EDGES, **window)
    return [step for step in range(num_steps) if given.is_active(step, num_steps)]


@pytest.mark.parametrize(
    ("num_steps", "window", "steps"),
    [
        (5, {}, [0, 1, 2, 3, 4]),
        (5, {"end": 0.6}, [0, 1, 2]),
        (5, {"end": 0.59}, [0, 1]),
        (5, {"start": 0.4}, [2, 3, 4]),
        (5, {"start": 0.41, "end": 0.8}, [3]),
        (5, {"end": 0.1}, []),
        (1, {"end": 0.5}, []),
        (5, {"scale": 0}, []),
        (5, {"scale": -1}, [0, 1, 2, 3, 4]),
    ],
)
def test_a_step_counts_where_it_lies_wholly_inside_the_window(
    num_steps: int, window: dict[str, float], steps: list[int]
) -> None:
    assert active(num_steps, **window) == steps


# --- what a net sees


def test_images_are_conditioning_in_0_to_1() -> None:
    colour = Control(EDGES).conditioning(3, FRAME)
    assert (colour.shape, colour.dtype) == ((1, 3, 16, 32), np.dtype(np.float32))
    np.testing.assert_array_equal(colour[0].transpose(1, 2, 0) * 255, np.asarray(EDGES))
    grey = Control(EDGES).conditioning(1, FRAME)
    np.testing.assert_array_equal(grey[0, 0] * 255, np.asarray(EDGES.convert("L")))


def test_images_take_the_request_s_size() -> None:
    assert Control(EDGES).conditioning(3, Frame((64, 24), "crop")).shape == (1, 3, 24, 64)


@pytest.mark.parametrize("num_channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.bool_, np.uint8])
def test_arrays_are_taken_as_they_are(num_channels: int, dtype: type[np.generic]) -> None:
    array: Array = np.random.default_rng(0).integers(0, 2, (16, 32, num_channels)).astype(dtype)
    conditioning = Control(array).conditioning(num_channels, FRAME)
    assert conditioning.dtype == np.float32
    np.testing.assert_array_equal(conditioning[0].transpose(1, 2, 0), array.astype(np.float32))


@pytest.mark.parametrize(
    ("image", "num_channels", "frame", "message"),
    [
        (EDGES, 5, FRAME, "this ControlNet takes 5 channels, not an image: give an array (height"),
        (np.zeros((16, 32, 3)), 5, FRAME, "got an array (16, 32, 3), expected (16, 32, 5)"),
        (np.zeros((32, 16, 3)), 3, FRAME, "got an array (32, 16, 3), expected (16, 32, 3)"),
        (
            np.zeros((16, 32, 3)),
            3,
            Frame((32, 16), box=(0, 0, 8, 8)),
            "and no padding_mask_crop",
        ),
    ],
)
def test_an_image_that_does_not_fit_a_net_is_reported(
    image: Any, num_channels: int, frame: Frame, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        Control(image).conditioning(num_channels, frame)
    assert message in str(caught.value)


@pytest.mark.needs("cv2")
def test_annotating_comes_after_resizing() -> None:
    """A line of one pixel would be grey after its image were made smaller."""
    square = Image.new("RGB", (256, 128))
    square.paste("white", (64, 32, 192, 96))
    conditioning = Control(square, annotate="canny").conditioning(1, Frame((64, 32)))
    assert set(np.unique(conditioning)) == {0, 1}
