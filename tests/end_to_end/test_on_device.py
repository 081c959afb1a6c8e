"""Control whose residuals stay on a device: ONNX Runtime's memory, bound as a GPU's is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pytest

import sdrt
from sdrt import Control
from sdrt_engines import Array, DeviceArray, Feed, Pinned, resolve_target
from sdrt_engines.onnxruntime_cuda import BoundEngine
from support.pictures import picture

BUNDLE = sdrt.Bundle.open("demo")
NAMES = ("unet_controlled", "controlnet_edges")
PROMPT = "a large red circle on a white background"


class Observed(BoundEngine):
    """A network of the demo bundle, and of what kind each feed of each run was."""

    def __init__(self, name: str) -> None:
        import onnxruntime

        component = BUNDLE.component(name)
        path = BUNDLE.root / component.model
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        super().__init__(component.signature, name, session, "cpu")
        self.runs: list[dict[str, type]] = []

    def run(
        self, feeds: Mapping[str, Feed], outputs: Sequence[str] | None = None
    ) -> dict[str, Array]:
        self._observe(feeds)
        return super().run(feeds, outputs)

    def run_on_device(
        self, feeds: Mapping[str, Feed], outputs: Sequence[str] | None = None
    ) -> dict[str, Array | DeviceArray]:
        self._observe(feeds)
        return super().run_on_device(feeds, outputs)

    def _observe(self, feeds: Mapping[str, Feed]) -> None:
        kinds = (DeviceArray, Pinned, np.ndarray)
        self.runs.append(
            {
                name: next(kind for kind in kinds if isinstance(feed, kind))
                for name, feed in feeds.items()
            }
        )


@pytest.fixture
def engines() -> Iterator[dict[str, Observed]]:
    engines = {name: Observed(name) for name in NAMES}
    yield engines
    for engine in engines.values():
        engine.close()


def drawn(pipeline: sdrt.Pipeline, **keywords: Any) -> Array:
    control = {"edges": Control(picture(64, 64), scale=0.7, end=0.6)}
    result = pipeline(PROMPT, control=control, seed=3, num_inference_steps=5, **keywords)
    return np.asarray(result.images[0])


@pytest.mark.parametrize("guess_mode", [False, True])
def test_the_picture_is_the_one_without(guess_mode: bool, engines: dict[str, Observed]) -> None:
    target = resolve_target("cpu")
    with sdrt.Pipeline(BUNDLE, target, engines) as bound, sdrt.Pipeline(BUNDLE, target) as plain:
        got = drawn(bound, guess_mode=guess_mode)
        np.testing.assert_array_equal(got, drawn(plain, guess_mode=guess_mode))


def test_residuals_never_see_the_host(engines: dict[str, Observed]) -> None:
    with sdrt.Pipeline(BUNDLE, resolve_target("cpu"), engines) as pipeline:
        drawn(pipeline)
    unet, net = (engines[name] for name in NAMES)
    assert len(net.runs) == 3  # of five steps, those inside the window
    every_step = {"sample": np.ndarray, "timestep": np.ndarray}
    for run in net.runs:
        assert run == dict.fromkeys(run, Pinned) | every_step
    text = {"encoder_hidden_states": Pinned}
    for index, run in enumerate(unet.runs):
        assert run == dict.fromkeys(run, DeviceArray if index < 3 else Pinned) | every_step | text


def test_guess_mode_puts_its_zeros_before_them_on_the_host(engines: dict[str, Observed]) -> None:
    with sdrt.Pipeline(BUNDLE, resolve_target("cpu"), engines) as pipeline:
        drawn(pipeline, guess_mode=True)
    kinds = [run["mid_block_residual"] for run in engines["unet_controlled"].runs]
    assert kinds == [np.ndarray] * 3 + [Pinned] * 2
