"""What several ControlNets add to the UNet at each step."""

from __future__ import annotations

import math

import numpy as np
import pytest

from sdrt.control import Control
from sdrt.denoising.residuals import ControlNet, Residuals, residual_shapes
from sdrt.errors import NonFiniteError
from sdrt.images.framing import Frame
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
