"""ControlNets: what may be asked of one, and what several add to the UNet at each step."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdrt.control import Control, ControlNet, Residuals, residual_shapes
from sdrt.errors import NonFiniteError, RequestError
from sdrt.images.reading import Frame
from sdrt_engines import Array, FunctionEngine, Pinned
from support.function_networks import (
    CONTROLLED_UNET,
    Networks,
    brightness,
    control,
    controlnet,
    predict_controlled,
)
from support.pictures import picture

EDGES = picture(32, 16)
FRAME = Frame((32, 16))
SAMPLE = np.random.default_rng(0).standard_normal((4, 4, 2, 4), np.float32)  # of two images
TEXT = np.random.default_rng(1).standard_normal((4, 77, 3), np.float32)
TIMESTEP = np.full(4, 501, np.float32)
NAMES = tuple(spec.name for spec in controlnet(3).outputs)


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
        ({"image": None}, "control image: got a NoneType, expected a PIL image or the path"),
        ({"image": "gone.png"}, "control image: 'gone.png' cannot be read: No such file"),
        ({"image": np.zeros((8, 8))}, "control image: got an array float64 (8, 8), expected"),
        ({"image": np.zeros((0, 8, 3))}, "control image: got an array float64 (0, 8, 3)"),
        ({"image": np.full((8, 8, 3), "x")}, "control image: got an array <U1 (8, 8, 3)"),
        ({"image": np.full((8, 8, 3), 255, np.uint8)}, "with values from 255 to 255, expected 0"),
        ({"image": np.full((8, 8, 3), -0.1)}, "divide bytes by 255"),
        ({"image": np.full((8, 8, 3), np.nan)}, "with values from nan to nan, expected 0 to 1"),
        (
            {"image": np.zeros((8, 8, 3)), "annotate": "canny"},
            "control: got an annotator for an array, expected a picture",
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
    assert given.picture is not None
    assert given.picture.path == str(tmp_path / "edges.png")
    assert given.size == (32, 16)


# --- windows


def active(num_steps: int, **window: float) -> list[int]:
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


def test_pictures_are_conditioning_in_0_to_1() -> None:
    colour = Control(EDGES).conditioning(3, FRAME)
    assert (colour.shape, colour.dtype) == ((1, 3, 16, 32), np.float32)
    np.testing.assert_array_equal(colour[0].transpose(1, 2, 0) * 255, np.asarray(EDGES))
    grey = Control(EDGES).conditioning(1, FRAME)
    np.testing.assert_array_equal(grey[0, 0] * 255, np.asarray(EDGES.convert("L")))


def test_pictures_take_the_request_s_size() -> None:
    assert Control(EDGES).conditioning(3, Frame((64, 24), "crop")).shape == (1, 3, 24, 64)


@pytest.mark.parametrize("num_channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, np.bool_, np.uint8])
def test_arrays_are_taken_as_they_are(num_channels: int, dtype: type) -> None:
    array = np.random.default_rng(0).integers(0, 2, (16, 32, num_channels)).astype(dtype)
    conditioning = Control(array).conditioning(num_channels, FRAME)
    assert conditioning.dtype == np.float32
    np.testing.assert_array_equal(conditioning[0].transpose(1, 2, 0), array.astype(np.float32))


@pytest.mark.parametrize(
    ("image", "num_channels", "frame", "message"),
    [
        (EDGES, 5, FRAME, "this ControlNet takes 5 channels, not a picture: give an array (height"),
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
def test_what_does_not_fit_a_net_is_told(
    image: Any, num_channels: int, frame: Frame, message: str
) -> None:
    with pytest.raises(RequestError) as caught:
        Control(image).conditioning(num_channels, frame)
    assert message in str(caught.value)


def test_annotating_comes_after_resizing() -> None:
    """A line of one pixel would be grey after its picture were made smaller."""
    square = Image.new("RGB", (256, 128))
    square.paste("white", (64, 32, 192, 96))
    conditioning = Control(square, annotate="canny").conditioning(1, Frame((64, 32)))
    assert set(np.unique(conditioning)) == {0, 1}


# --- residuals


class Nets:
    """A controlled UNet and ControlNets of 3 channels, and what they were fed."""

    def __init__(self, *controls: Control, pools_globally: bool = False) -> None:
        others = {f"controlnet_{i}": (controlnet(3), control) for i in range(len(controls))}
        self.networks = Networks(unet_controlled=(CONTROLLED_UNET, predict_controlled), **others)
        self.unet = self.networks.engines["unet_controlled"]
        self.nets = [
            ControlNet(
                self.networks.engines[f"controlnet_{i}"],
                given,
                given.conditioning(3, FRAME),
                pools_globally=pools_globally,
            )
            for i, given in enumerate(controls)
        ]

    def residuals(
        self,
        text: Array = TEXT,
        *,
        num_steps: int = 4,
        guided: bool = True,
        guess_mode: bool = False,
    ) -> Residuals:
        return Residuals(
            self.nets, self.unet, text, num_steps=num_steps, guided=guided, guess_mode=guess_mode
        )

    def feeds(self, net: int) -> list[dict[str, Array]]:
        return self.networks.feeds[f"controlnet_{net}"]

    @property
    def runs(self) -> list[int]:
        return [len(self.feeds(i)) for i in range(len(self.nets))]


def test_a_net_sees_what_the_unet_sees_and_its_picture() -> None:
    nets = Nets(Control(EDGES))
    outputs = nets.residuals()(0, SAMPLE, TIMESTEP)
    (feeds,) = nets.feeds(0)
    np.testing.assert_array_equal(feeds["sample"], SAMPLE)
    np.testing.assert_array_equal(feeds["timestep"], TIMESTEP)
    np.testing.assert_array_equal(feeds["encoder_hidden_states"], TEXT)
    np.testing.assert_array_equal(
        feeds["controlnet_cond"], Control(EDGES).conditioning(3, FRAME).repeat(4, axis=0)
    )
    assert tuple(outputs) == NAMES
    for name, residual in brightness(feeds).items():
        np.testing.assert_array_equal(outputs[name], residual)
        assert not feeds[f"earlier.{name}"].any()


def test_nets_are_scaled_and_summed() -> None:
    nets = Nets(Control(EDGES, 0.5), Control(picture(32, 16, seed=1), -2), Control(EDGES, 0))
    outputs = nets.residuals()(0, SAMPLE, TIMESTEP)
    assert nets.runs == [1, 1, 0]
    first, second = (brightness(nets.feeds(i)[0]) for i in (0, 1))
    for name in NAMES:
        expected = first[name] * np.float32(0.5) + second[name] * np.float32(-2)
        np.testing.assert_allclose(outputs[name], expected, rtol=1e-6)
        assert outputs[name].dtype == np.float32


def test_the_first_net_at_work_adds_to_zeros() -> None:
    """Also where that is another one than at the step before."""
    nets = Nets(Control(EDGES, end=0.5), Control(picture(32, 16, seed=1)))
    residuals = nets.residuals()
    for step in range(4):
        outputs = residuals(step, SAMPLE, TIMESTEP)
        expected = [brightness(nets.feeds(i)[-1]) for i in ((0, 1) if step < 2 else (1,))]
        for name in NAMES:
            np.testing.assert_array_equal(outputs[name], sum(each[name] for each in expected))


def test_a_net_outside_its_window_is_not_run() -> None:
    nets = Nets(Control(EDGES, end=0.5), Control(EDGES, start=0.5))
    residuals = nets.residuals()
    runs = []
    for step in range(4):
        residuals(step, SAMPLE, TIMESTEP)
        runs.append(nets.runs)
    assert runs == [[1, 0], [2, 0], [2, 1], [2, 2]]


@pytest.mark.parametrize("guess_mode", [False, True])
@pytest.mark.parametrize("nothing", [{"scale": 0}, {"end": 0.1}])
def test_where_no_net_is_at_work_there_are_zeros_pinned_once(
    nothing: dict[str, float], guess_mode: bool
) -> None:
    nets = Nets(Control(EDGES, **nothing), Control(EDGES, **nothing))
    residuals = nets.residuals(guess_mode=guess_mode)
    first, second = (residuals(step, SAMPLE, TIMESTEP) for step in (0, 1))
    assert nets.runs == [0, 0]
    assert first is second
    assert tuple(first) == NAMES
    for name, shape in zip(NAMES, [(4, 4, 2, 4), (4, 4, 1, 2), (4, 4, 1, 2)], strict=True):
        zeros = first[name]
        assert isinstance(zeros, Pinned)
        assert zeros.engine is nets.unet
        assert zeros.shape == shape
        assert not zeros.value.any()


def test_guess_mode_sees_the_prompts_alone() -> None:
    nets = Nets(Control(EDGES))
    outputs = nets.residuals(guess_mode=True)(0, SAMPLE, TIMESTEP)
    (feeds,) = nets.feeds(0)
    np.testing.assert_array_equal(feeds["sample"], SAMPLE[2:])
    np.testing.assert_array_equal(feeds["encoder_hidden_states"], TEXT[2:])
    assert {len(feed) for name, feed in feeds.items() if name != "conditioning_scale"} == {2}
    for output in outputs.values():
        negative, positive = np.split(output, 2)
        assert not negative.any()
        assert positive.all()


def test_guess_mode_without_guidance_has_no_second_half() -> None:
    nets = Nets(Control(EDGES))
    outputs = nets.residuals(TEXT[:2], guided=False, guess_mode=True)(0, SAMPLE[:2], TIMESTEP[:2])
    assert {len(output) for output in outputs.values()} == {2}
    assert all(output.all() for output in outputs.values())


@pytest.mark.parametrize(
    ("guess_mode", "pools_globally", "factors"),
    [
        (False, False, (1, 1, 1)),
        (True, False, (0.1, math.sqrt(0.1), 1)),
        (True, True, (1, 1, 1)),
    ],
)
def test_guess_mode_trusts_the_deep_residuals_more(
    guess_mode: bool, pools_globally: bool, factors: tuple[float, ...]
) -> None:
    nets = Nets(Control(EDGES, 0.8), pools_globally=pools_globally)
    outputs = nets.residuals(TEXT[:2], guided=False, guess_mode=guess_mode)(
        0, SAMPLE[:2], TIMESTEP[:2]
    )
    given = brightness(nets.feeds(0)[0])
    for factor, (name, residual) in zip(factors, given.items(), strict=True):
        np.testing.assert_allclose(outputs[name], residual * 0.8 * factor, rtol=1e-6)


def test_nan_names_the_controlnet() -> None:
    def broken(feeds: dict[str, Array]) -> dict[str, Array]:
        return {name: residual * np.nan for name, residual in control(feeds).items()}

    engine = FunctionEngine(controlnet(3), broken, name="controlnet_edges")
    given = Control(EDGES)
    net = ControlNet(engine, given, given.conditioning(3, FRAME), pools_globally=False)
    unet = FunctionEngine(CONTROLLED_UNET, predict_controlled)
    residuals = Residuals([net], unet, TEXT, num_steps=1, guided=True, guess_mode=False)
    residuals(0, SAMPLE, TIMESTEP)  # not looked at: on a GPU that would wait for them
    with pytest.raises(NonFiniteError, match=r"^controlnet_edges: 128 of 128 output values"):
        residuals.require_finite(0, SAMPLE, TIMESTEP)


def test_of_several_nets_the_one_at_fault_is_named() -> None:
    nets = Nets(Control(EDGES), Control(EDGES, 1e-30), Control(EDGES))
    nets.residuals().require_finite(0, SAMPLE, TIMESTEP)
    infinite = Control(EDGES)
    object.__setattr__(infinite, "scale", math.inf)
    nets = Nets(Control(EDGES), infinite, Control(EDGES))
    with pytest.raises(NonFiniteError, match=r"^controlnet_1: "):
        nets.residuals().require_finite(0, SAMPLE, TIMESTEP)


@pytest.mark.parametrize(("height", "half"), [(6, 3), (7, 4), (1, 1)])
def test_the_shapes_of_residuals_follow_from_the_sample(height: int, half: int) -> None:
    shapes = residual_shapes(CONTROLLED_UNET, (2, 4, height, 8))
    assert list(shapes.items()) == list(
        zip(NAMES, [(2, 4, height, 8), (2, 4, half, 4), (2, 4, half, 4)], strict=True)
    )
