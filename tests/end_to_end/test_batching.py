"""Requests whose asks are joined into common runs give, bit for bit, the results of single runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import sdrt
from sdrt import Control, Request
from sdrt.ask import Ask, Link
from sdrt_engines import resolve_target
from support.backends import skip_unless_it_opens
from support.driving import assert_as_alone
from support.images import sample_image

EDGES, OTHER = sample_image(64, 64), sample_image(64, 64, seed=1)
SIZE: dict[str, Any] = {"width": 64, "height": 64}
REQUESTS = {
    "ddim": Request("a red circle", seed=1, num_inference_steps=5, scheduler="ddim", **SIZE),
    "euler": Request(
        ["a blue star", "a large green square"],
        negative_prompt="a red circle",
        seed=2,
        num_inference_steps=8,
        guidance_scale=5.0,
        scheduler="euler_a",
        **SIZE,
    ),
    "whole": Request(
        "a red circle", seed=3, num_inference_steps=6, control={"edges": Control(EDGES, 0.8)}
    ),
    "window": Request(
        "a yellow star on a blue background",
        seed=4,
        num_inference_steps=7,
        guidance_scale=1.0,
        scheduler="dpmpp_2m",
        control={"edges": Control(OTHER, 0.5, start=0.2, end=0.7)},
    ),
    "guess": Request(
        "a small blue star",
        seed=5,
        num_inference_steps=4,
        guidance_scale=4.0,
        scheduler="heun",
        control={"edges": Control(EDGES, 1.5, end=0.8)},
        guess_mode=True,
    ),
    "two nets": Request(
        "a green triangle",
        seed=6,
        num_inference_steps=5,
        scheduler="unipc",
        control={"edges": Control(EDGES, 0.6), "lines": Control(OTHER, 0.4, start=0.3)},
    ),
}


@pytest.fixture(scope="module")
def bundle() -> sdrt.Bundle:
    """The demo bundle, with a second name for its ControlNet."""
    demo = sdrt.Bundle.open("demo")
    lines = replace(demo.component("controlnet_edges"), name="controlnet_lines")
    components = (*demo.manifest.components, lines)
    return replace(demo, manifest=replace(demo.manifest, components=components))


@pytest.mark.parametrize("target", ["cpu", "openvino"])
def test_joined_requests_give_what_each_gives_alone(target: str, bundle: sdrt.Bundle) -> None:
    skip_unless_it_opens(target)
    with sdrt.Pipeline(bundle, resolve_target(target, num_threads=1)) as pipeline:
        require_joined(assert_as_alone(pipeline, REQUESTS))


def require_joined(runs: Sequence[tuple[tuple[str, ...], Ask]]) -> None:
    """Asserts which asks were joined: plain requests at different timesteps; control at different
    timesteps and scales, including guess mode and closed windows."""
    shared = [(names, ask) for names, ask in runs if len(names) > 1]
    plain = [ask for names, ask in shared if set(names) == {"ddim", "euler"}]
    assert any(len(np.unique(timesteps_of(ask))) > 1 for ask in plain)
    control = [ask for names, ask in shared if set(names) == {"whole", "window", "guess"}]
    nets = [(ask, ask.chain[0]) for ask in control if len(ask.chain) == 2]
    assert any(len(np.unique(timesteps_of(ask))) > 1 for ask, _ in nets)
    assert any(len(np.unique(scales_of(net))) > 1 for _, net in nets)
    assert any(0 < len(net.rows) < ask.num_rows for ask, net in nets)
    constants = [ask.chain[-1].constant for ask in (*plain, *control)]
    assert len(set(map(id, constants))) < len(constants) / 2  # joined once for many steps


def scales_of(net: Link) -> np.ndarray:
    """The factor of each row's deepest residual."""
    return net.constant.feeds["conditioning_scale"][:, -1]


def timesteps_of(ask: Ask) -> np.ndarray:
    """The timesteps of each row; empty for text and VAE."""
    return ask.chain[-1].changing.get("timestep", np.zeros(0))
