"""Pipelines with engines on a device: ONNX Runtime's memory bound as on a GPU, and a simulated GPU
that runs plans.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np
import pytest

import sdrt
from sdrt import Control
from sdrt.targets.engines import open_engine
from sdrt_engines import Array, DeviceArray, Engine, Feed, Pinned, resolve_target
from sdrt_engines.onnxruntime_cuda import BoundEngine
from sdrt_engines.onnxruntime_library import fused_network
from sdrt_engines.shape_profiles import Profile, Range
from support.for_cuda import FOR_CUDA
from support.host_gpu import HostGpu
from support.images import sample_image

BUNDLE = sdrt.Bundle.open("demo")
NAMES = ("unet_controlled", "controlnet_edges")
PROMPT = "a large red circle on a white background"


class Observed(BoundEngine):
    """A network of the demo bundle, with the kind of each feed of each run."""

    def __init__(self, name: str) -> None:
        import onnxruntime

        component = BUNDLE.component(name)
        path = BUNDLE.root / component.model
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        network = fused_network(path, options)  # as the target `cpu` runs it
        providers = ["CPUExecutionProvider"]
        session = onnxruntime.InferenceSession(network, options, providers=providers)
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


@pytest.fixture
def plans() -> Iterator[dict[str, Engine]]:
    """Every network of the demo bundle as a plan; the CPU computes its outputs."""
    sizes = {
        "batch": Range.parse("1..4"),
        "height": Range.parse("1..512"),
        "width": Range.parse("1..512"),
        "sequence": Range.parse("1..77"),
    }
    with ExitStack() as stack:
        gpu = HostGpu()
        engines: dict[str, Engine] = {}
        for component in BUNDLE.manifest.components:
            cpu = stack.enter_context(open_engine(BUNDLE, component.name, "cpu", num_threads=1))
            profile = Profile(
                {
                    spec.name: tuple(
                        Range.of(dim) if isinstance(dim, int) else sizes.get(dim, Range(1, 1, 512))
                        for dim in spec.shape
                    )
                    for spec in component.signature.inputs
                }
            )
            engine = gpu.engine(component.signature, cpu.run, [profile])
            engines[component.name] = stack.enter_context(engine)
        yield engines


def generated(pipeline: sdrt.Pipeline, **keywords: Any) -> Array:
    control = {"edges": Control(sample_image(64, 64), scale=0.7, start=0.2, end=0.6)}
    result = pipeline(PROMPT, control=control, seed=3, num_inference_steps=5, **keywords)
    return np.stack([np.asarray(image) for image in result.images])


@FOR_CUDA
@pytest.mark.parametrize("guess_mode", [False, True])
def test_the_image_is_the_one_without(guess_mode: bool, engines: dict[str, Observed]) -> None:
    target = resolve_target("cpu", num_threads=1)
    with sdrt.Pipeline(BUNDLE, target, engines) as bound, sdrt.Pipeline(BUNDLE, target) as plain:
        got = generated(bound, guess_mode=guess_mode)
        np.testing.assert_array_equal(got, generated(plain, guess_mode=guess_mode))


@pytest.mark.parametrize("guess_mode", [False, True])
def test_plans_draw_the_image_of_the_cpu(guess_mode: bool, plans: dict[str, Engine]) -> None:
    target = resolve_target("cpu", num_threads=1)
    keywords = {
        "guess_mode": guess_mode,
        "image": sample_image(64, 64, seed=1),
        "num_images_per_prompt": 2,
    }
    with sdrt.Pipeline(BUNDLE, target, plans) as simulated, sdrt.Pipeline(BUNDLE, target) as plain:
        for _ in range(2):
            got = generated(simulated, **keywords)
            np.testing.assert_array_equal(got, generated(plain, **keywords))


@FOR_CUDA
def test_residuals_never_see_the_host(engines: dict[str, Observed]) -> None:
    with sdrt.Pipeline(BUNDLE, resolve_target("cpu", num_threads=1), engines) as pipeline:
        generated(pipeline)
    unet, net = (engines[name] for name in NAMES)
    assert len(net.runs) == 2  # of five steps, those inside the window
    every_step = {"sample": np.ndarray, "timestep": np.ndarray}
    for run in net.runs:
        assert run == dict.fromkeys(run, Pinned) | every_step
    text = {"encoder_hidden_states": Pinned}
    for index, run in enumerate(unet.runs):
        assert (
            run
            == dict.fromkeys(run, DeviceArray if index in (1, 2) else Pinned) | every_step | text
        )


@FOR_CUDA
def test_guess_mode_puts_its_zeros_before_them_on_the_host(engines: dict[str, Observed]) -> None:
    with sdrt.Pipeline(BUNDLE, resolve_target("cpu", num_threads=1), engines) as pipeline:
        generated(pipeline, guess_mode=True)
    kinds = [run["mid_block_residual"] for run in engines["unet_controlled"].runs]
    assert kinds == [Pinned, np.ndarray, np.ndarray, Pinned, Pinned]
