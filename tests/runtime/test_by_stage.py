"""Requests whose networks do not fit into memory together are run stage by stage."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from sdrt import Bundle, NoteWarning, OutOfMemoryError, Pipeline, Request, Result
from sdrt.targets import reservations
from sdrt_engines import Array, EngineError, FreeMemory, FunctionEngine, Resolution, Target
from support.backends import opening
from support.waiting import wait_until

REQUEST = Request(
    "a red circle", width=192, height=192, num_inference_steps=2, guidance_scale=1, seed=5
)
PLAIN = {"text_encoder", "unet", "vae_decoder"}

Limit = Callable[[Request], None]


@pytest.fixture
def pipe() -> Iterator[Pipeline]:
    with Pipeline.open("demo", "cpu", num_threads=1) as pipe:
        yield pipe


@pytest.fixture
def limit(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> Limit:
    """Leaves enough memory for each stage of a request, but not for all of its networks. The
    process takes what these hold: all else would be as large as the demo's networks."""

    def held() -> int:
        return sum(pipe.engines.memory._held.values())

    def set_limit(request: Request) -> None:
        memory, runs = pipe.engines.memory, pipe.generation(request).job.work.runs
        together = memory.forecast(runs, None)
        by_stage = memory.forecast(runs, FreeMemory(0, "of a test"))
        assert (together.by_stage, by_stage.by_stage) == (False, True)
        size = (together.further + by_stage.further) // 2
        monkeypatch.setattr(reservations, "resident_memory", held)
        monkeypatch.setattr(reservations.IN_MEMORY, "_in_use", held)
        monkeypatch.setenv(reservations.VARIABLE, str(held() + size))

    return set_limit


@pytest.fixture(scope="module")
def expected() -> Result:
    with Pipeline.open("demo", "cpu", num_threads=1) as pipe:
        return generated(pipe, REQUEST)


def generated(pipe: Pipeline, request: Request) -> Result:
    """The result without its notes as a warning."""
    stream = pipe.stream(request)
    for _ in stream:
        pass
    return stream.result


def opened(pipe: Pipeline) -> set[str]:
    return set(pipe.engines._open)


def require_same(got: Result, expected: Result) -> None:
    np.testing.assert_array_equal(got.latents, expected.latents)
    for image, other in zip(got.images, expected.images, strict=True):
        np.testing.assert_array_equal(image, other)


def codes(result: Result) -> list[str]:
    return [note.code for note in result.notes]


def test_the_networks_of_other_stages_are_closed(
    pipe: Pipeline, limit: Limit, expected: Result
) -> None:
    limit(REQUEST)
    assert pipe.forecast(REQUEST).by_stage
    for kept in (set[str](), {"text_encoder"}):  # the next request opens the others again
        stream = pipe.stream(REQUEST)
        for _ in stream:
            assert opened(pipe) == {"unet"}
        assert opened(pipe) == {"vae_decoder"}
        require_same(stream.result, expected)
        assert stream.result.timings.seconds.keys() == expected.timings.seconds.keys() - kept
        assert stream.result.timings.seconds["loading"] > 0.001


def test_a_note_says_so(pipe: Pipeline, limit: Limit, expected: Result) -> None:
    assert "opened_by_stage" not in codes(expected)
    limit(REQUEST)
    with pytest.warns(
        NoteWarning, match="do not fit together into the .* MiB that are free within "
    ):
        assert "opened_by_stage" in codes(pipe(REQUEST))


def test_what_fits_together_stays_open(
    pipe: Pipeline, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(REQUEST)
    generated(pipe, REQUEST)
    monkeypatch.delenv(reservations.VARIABLE)
    other = replace(REQUEST, prompt="a blue star")  # whose text is not known yet
    assert "opened_by_stage" not in codes(generated(pipe, other))
    assert opened(pipe) == PLAIN


def test_what_an_earlier_request_left_open_is_closed(
    pipe: Pipeline, limit: Limit, expected: Result
) -> None:
    for name in ("controlnet_edges", "unet_controlled", "vae_encoder"):
        pipe.engines[name]
    limit(REQUEST)
    stream = pipe.stream(REQUEST)
    next(stream)
    assert opened(pipe) == {"unet"}
    assert pipe.engines.memory.size < 2 * pipe.engines.memory._memory("unet").weights
    require_same(generated(pipe, REQUEST), expected)


def test_a_denoiser_and_its_controlnets_are_one_stage(pipe: Pipeline, limit: Limit) -> None:
    request = replace(REQUEST, control={"edges": Image.new("RGB", (192, 192), "white")})
    with Pipeline.open("demo", "cpu", num_threads=1) as other:
        with_all_open = generated(other, request)
    limit(request)
    stream = pipe.stream(request)
    for _ in stream:
        assert opened(pipe) == {"unet_controlled", "controlnet_edges"}
    require_same(stream.result, with_all_open)


def test_requests_of_one_thread_may_alternate(
    pipe: Pipeline, limit: Limit, expected: Result
) -> None:
    limit(REQUEST)
    streams = [pipe.stream(REQUEST) for _ in range(2)]
    for step, _ in zip(*streams, strict=True):
        assert opened(pipe) == {"unet"}
        if step.index == 0:
            step.preview()  # its decoder takes the UNet's place
            assert opened(pipe) == {"vae_decoder"}
    for stream in streams:
        require_same(stream.result, expected)


def test_requests_of_several_threads_take_turns(
    pipe: Pipeline, limit: Limit, expected: Result
) -> None:
    limit(REQUEST)
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(lambda _: generated(pipe, REQUEST), range(3)))
    for result in results:
        require_same(result, expected)


def test_a_request_that_began_with_all_networks_goes_on_by_stage(
    pipe: Pipeline, limit: Limit, expected: Result
) -> None:
    first = pipe.stream(REQUEST)
    next(first)
    wait_until(lambda: opened(pipe) == PLAIN)
    large = replace(REQUEST, width=256, height=256)
    limit(large)
    second = pipe.stream(large)
    next(second)
    assert opened(pipe) == {"unet"}
    for _ in first:
        assert opened(pipe) == {"unet"}
    require_same(first.result, expected)
    assert "opened_by_stage" not in codes(first.result)
    second.close()


def test_one_that_does_not_fit_by_stage_either_is_refused(
    pipe: Pipeline, limit: Limit, monkeypatch: pytest.MonkeyPatch
) -> None:
    limit(REQUEST)
    with pytest.raises(OutOfMemoryError, match="1024×1024 pixels on target cpu: expected to take"):
        pipe(replace(REQUEST, width=1024, height=1024))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NoteWarning)
        pipe(REQUEST)


# --- low_memory: always by stage


@pytest.fixture
def frugal() -> Iterator[Pipeline]:
    with Pipeline.open("demo", "cpu", num_threads=1, low_memory=True) as pipe:
        yield pipe


def test_low_memory_closes_each_network_after_its_use(frugal: Pipeline, expected: Result) -> None:
    assert frugal.forecast(REQUEST).by_stage
    for _ in range(2):
        stream = frugal.stream(REQUEST)
        for _ in stream:
            assert opened(frugal) == {"unet"}
        assert opened(frugal) == set()
        require_same(stream.result, expected)
        assert stream.result.notes == expected.notes


def test_low_memory_needs_less(frugal: Pipeline, pipe: Pipeline) -> None:
    assert frugal.forecast(REQUEST).peak < pipe.forecast(REQUEST).peak


def test_low_memory_stays_after_a_fallback(expected: Result) -> None:
    def fails(feeds: Mapping[str, Array]) -> dict[str, Array]:
        raise EngineError("unet: device lost")

    bundle = Bundle.open("demo")
    unet = FunctionEngine(bundle.component("unet").signature, fails, name="unet")
    resolution = Resolution(Target("cpu"), others=(opening("cpu"),), num_threads=1)
    with Pipeline(bundle, resolution, {"unet": unet}, low_memory=True) as pipe:
        result = generated(pipe, REQUEST)
        assert result.engine.startswith("cpu (after cpu: unet: ")
        assert opened(pipe) == set()
