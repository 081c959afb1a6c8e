"""Requests whose asks are joined into common runs give, bit for bit, the results of single runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pytest

import sdrt
from sdrt import Control, Request, Result
from sdrt.ask import Answer, Ask, Joiner, Link, split
from sdrt.generation import Events
from sdrt.targets.engines import Engines
from sdrt.targets.evaluation import evaluate
from sdrt_engines import resolve_target
from support.backends import skip_unless_it_opens
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


@dataclass
class Driver:
    """Drives generations together: of the pending asks, those with the most common key run as one.

    `runs` holds the generations that shared each run, and its ask.
    """

    engines: Engines
    join: Joiner = field(default_factory=Joiner)
    runs: list[tuple[tuple[str, ...], Ask]] = field(default_factory=list)

    def __call__(self, generations: Mapping[str, Events]) -> dict[str, Result]:
        results: dict[str, Result] = {}
        waiting: dict[str, Ask] = {}
        for name, events in generations.items():
            self._send(name, events, None, waiting, results)
        while waiting:
            names = self._next_run(waiting)
            asks = [waiting.pop(name) for name in names]
            joined = self.join(asks)
            self.runs.append((tuple(names), joined))
            answers = split(evaluate(joined, self.engines), asks)
            for name, answer in zip(names, answers, strict=True):
                self._send(name, generations[name], answer, waiting, results)
        return results

    def _next_run(self, waiting: Mapping[str, Ask]) -> Sequence[str]:
        groups: dict[Hashable, list[str]] = defaultdict(list)
        for name, ask in waiting.items():
            groups[ask.key].append(name)
        return max(groups.values(), key=len)

    def _send(
        self,
        name: str,
        events: Events,
        answer: Answer | None,
        waiting: dict[str, Ask],
        results: dict[str, Result],
    ) -> None:
        """Sends an answer, skips steps, and keeps the next ask or the result."""
        try:
            event = events.send(answer)
            while not isinstance(event, Ask):
                event = events.send(None)
            waiting[name] = event
        except StopIteration as finished:
            results[name] = finished.value


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
        alone = {name: pipeline(request) for name, request in REQUESTS.items()}
        driver = Driver(pipeline.engines)
        generations = {name: pipeline.generation(each) for name, each in REQUESTS.items()}
        together = driver({name: each.events() for name, each in generations.items()})
    for name, result in alone.items():
        np.testing.assert_array_equal(together[name].latents, result.latents, err_msg=name)
        for image, expected in zip(together[name].images, result.images, strict=True):
            assert image.tobytes() == expected.tobytes()
    require_joined(driver.runs)


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
