"""Under "auto" a request whose target fails continues on the next; a named target is an error."""

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from threading import Barrier
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, Pipeline
from sdrt.errors import NonFiniteError
from sdrt.targets.engines import open_engine
from sdrt_engines import (
    Array,
    Backend,
    Engine,
    EngineError,
    FunctionEngine,
    Refusal,
    Resolution,
    Target,
    TensorError,
    resolve_target,
)
from sdrt_engines.interruptible import interruptible
from support.backends import opening, refusing
from support.function_networks import Function
from support.os_threads import needs_counting, os_threads
from support.toy_bundle import write_toy_bundle
from support.waiting import wait_until

PROMPT = "a red circle"
GPU, CPU = Target("cuda"), Target("cpu")
THEN_CPU = (refusing("openvino", "not installed"), opening("cpu"))


def failing_pipeline(
    bundle: Bundle,
    unet: Function,
    others: Sequence[Backend] = THEN_CPU,
    num_threads: int | None = None,
    **replaced: Engine,
) -> Pipeline:
    """A pipeline on a GPU with its own UNet, and engines by component name; the rest is the
    rest is the bundle's."""
    functions: dict[str, Engine] = {
        "unet": FunctionEngine(bundle.component("unet").signature, unet, name="unet")
    }
    functions |= replaced
    engines = {
        component.name: open_engine(bundle, component.name, "cpu")
        for component in bundle.manifest.components
        if component.name not in functions
    }
    others = [replace(backend, num_threads=num_threads) for backend in others]
    resolution = Resolution(GPU, others=others, num_threads=num_threads)
    return Pipeline(bundle, resolution, engines | functions)


def out_of_memory(feeds: dict[str, Array]) -> dict[str, Array]:
    raise EngineError("unet: out of memory")


def half_of_the_sample(feeds: dict[str, Array]) -> dict[str, Array]:
    return {"out_sample": feeds["sample"] * np.float32(0.5)}


def not_a_number(feeds: dict[str, Array]) -> dict[str, Array]:
    return {"out_sample": np.full_like(feeds["sample"], np.nan)}


@pytest.mark.parametrize("unet", [out_of_memory, not_a_number])
def test_the_next_target_generates_the_same_image(
    unet: Callable[..., dict[str, Array]], bundle: Bundle, caplog: pytest.LogCaptureFixture
) -> None:
    pipe = failing_pipeline(bundle, unet)
    with caplog.at_level(logging.WARNING, logger="sdrt"):
        result = pipe(PROMPT, seed=1, num_inference_steps=3)
    expected = Pipeline.open(bundle.root, "cpu")(PROMPT, seed=1, num_inference_steps=3)
    np.testing.assert_array_equal(result.latents, expected.latents)
    assert pipe.target == CPU
    assert result.engine.startswith("cpu (after cuda: unet: ")
    assert "target cuda failed, continuing with cpu" in caplog.text
    assert [refusal.target.backend for refusal in pipe.refusals] == ["openvino", "cuda"]


def test_no_step_is_yielded_twice(bundle: Bundle) -> None:
    """The step that failed is repeated, not the request."""
    calls = []

    def third_call_fails(feeds: dict[str, Array]) -> dict[str, Array]:
        calls.append(feeds)
        if len(calls) == 3:
            raise EngineError("unet: device lost")
        return {"out_sample": feeds["sample"] * np.float32(0.5)}

    stream = failing_pipeline(bundle, third_call_fails).stream(
        PROMPT, seed=1, num_inference_steps=4, scheduler="euler"
    )
    assert [step.index for step in stream] == [0, 1, 2, 3]
    assert len(calls) == 3
    expected = Pipeline.open(bundle.root, "cpu")(
        PROMPT, seed=1, num_inference_steps=4, scheduler="euler"
    )
    np.testing.assert_array_equal(stream.result.latents, expected.latents)
    assert stream.result.engine == "cpu (after cuda: unet: device lost)"


@pytest.mark.parametrize("component", ["text_encoder", "vae_decoder"])
def test_any_network_may_fail(component: str, bundle: Bundle) -> None:
    def fails(feeds: dict[str, Array]) -> dict[str, Array]:
        raise EngineError(f"{component}: device lost")

    failing: Any = FunctionEngine(bundle.component(component).signature, fails, name=component)
    pipe = failing_pipeline(bundle, half_of_the_sample, **{component: failing})
    stream = pipe.stream(PROMPT, seed=1, num_inference_steps=3)
    assert [step.index for step in stream] == [0, 1, 2]
    assert stream.result.engine == f"cpu (after cuda: {component}: device lost)"


def test_a_preview_continues_on_the_next_target(bundle: Bundle) -> None:
    decoder = FunctionEngine(bundle.component("vae_decoder").signature, out_of_memory)
    pipe = failing_pipeline(bundle, half_of_the_sample, vae_decoder=decoder)
    stream = pipe.stream(PROMPT, seed=1, num_inference_steps=3)
    previews = [step.preview() for step in stream]
    assert [len(images) for images in previews] == [1, 1, 1]


def test_later_requests_stay_there(bundle: Bundle) -> None:
    calls = []

    def fails(feeds: dict[str, Array]) -> dict[str, Array]:
        calls.append(feeds)
        return out_of_memory(feeds)

    pipe = failing_pipeline(bundle, fails)
    for _ in range(3):
        assert pipe(PROMPT, num_inference_steps=1).engine.startswith("cpu (after")
    assert len(calls) == 1


@needs_counting
def test_the_number_of_threads_is_kept(bundle: Bundle) -> None:
    interruptible(lambda: None)  # starts the worker of this thread
    before = os_threads()
    pipe = failing_pipeline(bundle, out_of_memory, num_threads=4)
    assert pipe(PROMPT, num_inference_steps=1).engine.startswith("cpu (after")
    num_engines = 2  # opened since: UNet and VAE decoder
    # The caller's thread is a fourth. The thread that opened the decoder ends soon.
    wait_until(lambda: len(os_threads() - before) == 3 * num_engines)


def test_two_requests_at_once_fall_once(bundle: Bundle) -> None:
    both = Barrier(2)

    def fails(feeds: dict[str, Array]) -> dict[str, Array]:
        both.wait(timeout=30)
        return out_of_memory(feeds)

    pipe = failing_pipeline(bundle, fails)
    with ThreadPoolExecutor() as pool:
        results = list(pool.map(lambda seed: pipe(PROMPT, seed=seed), (1, 2)))
    assert [result.seeds for result in results] == [(1,), (2,)]
    assert [refusal.target for refusal in pipe.refusals] == [Target("openvino"), GPU]


@pytest.mark.parametrize("unet", [out_of_memory, not_a_number])
def test_a_named_target_is_an_error(unet: Function, bundle: Bundle) -> None:
    pipe = failing_pipeline(bundle, unet, others=())
    with pytest.raises((EngineError, NonFiniteError), match="unet: "):
        pipe(PROMPT, num_inference_steps=1)
    assert pipe.target == GPU


def test_no_other_target_makes_up_for_bad_feeds(bundle: Bundle) -> None:
    def misfed(feeds: dict[str, Array]) -> dict[str, Array]:
        raise TensorError("unet: input 'sample' is too small")

    pipe = failing_pipeline(bundle, misfed)
    with pytest.raises(TensorError, match="too small"):
        pipe(PROMPT, num_inference_steps=1)


def test_if_every_target_fails_the_last_error_is_raised(tmp_path: Path) -> None:
    broken = Bundle.open(write_toy_bundle(tmp_path / "bundle", nan_from="unet"))
    pipe = failing_pipeline(broken, out_of_memory)
    with pytest.raises(NonFiniteError, match=r"unet: .* are NaN or infinite"):
        pipe(PROMPT, num_inference_steps=1)
    assert Refusal(GPU, "unet: out of memory") in pipe.refusals


@pytest.mark.parametrize("resolution", [resolve_target("cpu"), Resolution(GPU, others=THEN_CPU)])
def test_a_closed_pipeline_opens_nothing(resolution: Resolution, bundle: Bundle) -> None:
    pipe = Pipeline(bundle, resolution)
    pipe.close()
    with pytest.raises(EngineError, match="this pipeline is closed: open it again"):
        pipe(PROMPT)
    assert pipe.target == resolution.target
