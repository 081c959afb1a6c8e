"""The ControlNets that run at a step, their rows, and their feeds."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from sdrt.ask import Link
from sdrt.control import Control
from sdrt.denoising.conditioning import GUIDED, UNGUIDED, Conditioning
from sdrt.denoising.controlnets import ControlChain, ControlNet
from sdrt.images.framing import Frame
from support.function_networks import controlnet
from support.images import sample_image

EDGES = sample_image(32, 16)
FRAME = Frame((32, 16))
SAMPLE = np.random.default_rng(0).standard_normal((4, 4, 2, 4), np.float32)  # two images, guided
TEXT = np.random.default_rng(1).standard_normal((4, 77, 3), np.float32)
CONDITIONING = Conditioning({"encoder_hidden_states": TEXT, "time_ids": TEXT[:, 0]}, GUIDED)


def net(control: Control, *, pools_globally: bool = False, name: str = "edges") -> ControlNet:
    image = control.conditioning(3, FRAME)
    return ControlNet(f"controlnet_{name}", controlnet(3), control, image, pools_globally)


def chain(
    *nets: ControlNet,
    conditioning: Conditioning = CONDITIONING,
    num_steps: int = 4,
    guess_mode: bool = False,
) -> ControlChain:
    return ControlChain(nets, conditioning, num_steps=num_steps, guess_mode=guess_mode)


def feeds_of(link: Link) -> dict[str, np.ndarray]:
    return {**link.constant.feeds, **link.changing}


def test_a_net_sees_what_the_denoiser_sees_and_its_image() -> None:
    (link,) = chain(net(Control(EDGES, 0.5))).links(0, SAMPLE, 501)
    feeds = feeds_of(link)
    assert (link.component, link.rows) == ("controlnet_edges", (0, 1, 2, 3))
    inputs = {spec.name for spec in controlnet(3).inputs}
    assert feeds.keys() == {name for name in inputs if not name.startswith("earlier.")}
    np.testing.assert_array_equal(feeds["sample"], SAMPLE)
    np.testing.assert_array_equal(feeds["timestep"], np.full(4, 501, np.float32))
    np.testing.assert_array_equal(feeds["encoder_hidden_states"], TEXT)
    np.testing.assert_array_equal(
        feeds["controlnet_cond"], Control(EDGES).conditioning(3, FRAME).repeat(4, axis=0)
    )
    np.testing.assert_array_equal(feeds["conditioning_scale"], np.full((4, 3), 0.5, np.float32))
    assert {feed.dtype.name for feed in feeds.values()} == {"float32"}


def test_what_stays_the_same_is_one_object() -> None:
    links = chain(net(Control(EDGES, end=0.5)))
    constants = [links.links(step, SAMPLE, 501)[0].constant for step in range(4)]
    assert constants[0] is constants[1]
    assert constants[2] is constants[3]
    assert constants[0] is not constants[2]


def test_a_net_outside_its_window_runs_on_no_row() -> None:
    both = chain(net(Control(EDGES, end=0.5)), net(Control(EDGES, start=0.5), name="depth"))
    rows = [[len(link.rows) for link in both.links(step, SAMPLE, 1)] for step in range(4)]
    assert rows == [[4, 0], [4, 0], [0, 4], [0, 4]]


@pytest.mark.parametrize("nothing", [{"scale": 0}, {"end": 0.1}])
def test_an_idle_net_has_the_feeds_of_one_at_work_without_rows(nothing: dict[str, Any]) -> None:
    (idle,) = chain(net(Control(EDGES, **nothing))).links(0, SAMPLE, 501)
    (active,) = chain(net(Control(EDGES))).links(0, SAMPLE, 501)
    shapes, expected = (
        {name: feed.shape for name, feed in feeds_of(link).items()} for link in (idle, active)
    )
    assert shapes == {name: (0, *shape[1:]) for name, shape in expected.items()}


def test_guess_mode_runs_on_the_prompts_rows_alone() -> None:
    (link,) = chain(net(Control(EDGES)), guess_mode=True).links(0, SAMPLE, 501)
    feeds = feeds_of(link)
    assert link.rows == (2, 3)
    np.testing.assert_array_equal(feeds["sample"], SAMPLE[2:])
    np.testing.assert_array_equal(feeds["encoder_hidden_states"], TEXT[2:])
    assert {len(feed) for feed in feeds.values()} == {2}


def test_guess_mode_without_guidance_runs_on_all_rows() -> None:
    unguided = Conditioning({"encoder_hidden_states": TEXT[:2]}, UNGUIDED)
    links = chain(net(Control(EDGES)), conditioning=unguided, guess_mode=True)
    assert links.links(0, SAMPLE[:2], 501)[0].rows == (0, 1)


@pytest.mark.parametrize("pools", [False, True])
def test_a_first_net_that_pools_globally_guesses(pools: bool) -> None:
    nets = net(Control(EDGES), pools_globally=pools), net(Control(EDGES), name="depth")
    rows = {link.rows for link in chain(*nets).links(0, SAMPLE, 501)}
    assert rows == ({(2, 3)} if pools else {(0, 1, 2, 3)})


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
    scales = net(Control(EDGES, 0.8), pools_globally=pools_globally).scales(guess_mode)
    assert scales.dtype == np.float32
    np.testing.assert_allclose(scales, 0.8 * np.array(factors), rtol=1e-6)
