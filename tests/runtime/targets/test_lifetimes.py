"""Networks open in the background before a request needs them, and close after its last use."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Event
from typing import TypeAlias

import numpy as np
import pytest
from PIL import Image

from sdrt import Bundle, BundleError, DeadlineExceeded, OutOfMemoryError, Pipeline, Request, Result
from sdrt.targets import lifetimes
from sdrt.targets.runnable import Runnable
from sdrt_engines import Engine, EngineError, Refusal, Resolution, Target
from sdrt_engines.interruptible import num_running
from support.backends import opening
from support.function_networks import Networks
from support.toy_bundle import write_toy_bundle
from support.waiting import wait_until

REQUEST = Request("a red circle", height=64, width=64, num_inference_steps=3, seed=1)
FIRST, LAST = Target("openvino"), Target("cpu")  # both run on `cpu` here

Hook: TypeAlias = Callable[[Runnable], None]  # called with a network that is about to open


@pytest.fixture
def pipe(tmp_path: Path) -> Iterator[Pipeline]:
    with Pipeline.open(write_toy_bundle(tmp_path / "toy"), "cpu", num_threads=1) as pipe:
        yield pipe


@pytest.fixture
def before_opening(monkeypatch: pytest.MonkeyPatch) -> Callable[[Hook], None]:
    """Sets what happens before a network opens, on the `cpu` whatever its target."""
    really_open = Runnable.open

    def set_hook(hook: Hook) -> None:
        def opened(network: Runnable, num_threads: int | None) -> Engine:
            hook(network)
            return really_open(replace(network, target=LAST), num_threads)

        monkeypatch.setattr(Runnable, "open", opened)

    return set_hook


def opened(pipe: Pipeline) -> set[str]:
    return set(pipe.engines._open)


def nothing_opens() -> bool:
    return num_running() == 0


def taken(pipe: Pipeline, request: Request = REQUEST, *, last: bool = False) -> Result:
    stream = pipe.stream(request, last=last)
    for _ in stream:
        pass
    return stream.result


def test_the_denoiser_opens_while_the_text_encoder_does(
    pipe: Pipeline, before_opening: Callable[[Hook], None]
) -> None:
    both = Event()

    def wait_for_each_other(network: Runnable) -> None:
        if network.source.name == "unet":
            both.set()
        if network.source.name == "text_encoder":
            assert both.wait(10), "one opened after the other"

    before_opening(wait_for_each_other)
    taken(pipe)


def test_the_decoder_opens_after_the_first_step(
    pipe: Pipeline, before_opening: Callable[[Hook], None]
) -> None:
    first_step = Event()

    def wait_for_the_step(network: Runnable) -> None:
        if network.source.name == "vae_decoder":
            assert first_step.wait(10), "it was opened before"

    before_opening(wait_for_the_step)
    stream = pipe.stream(REQUEST)
    next(stream)
    first_step.set()
    wait_until(lambda: opened(pipe) == {"text_encoder", "unet", "vae_decoder"})
    for _ in stream:
        pass


def test_each_network_opens_once(pipe: Pipeline, before_opening: Callable[[Hook], None]) -> None:
    names = []
    before_opening(lambda network: names.append(network.source.name))
    image = Image.new("RGB", (64, 64), "grey")
    taken(pipe, replace(REQUEST, image=image, control={"edges": image}))
    taken(pipe, replace(REQUEST, prompt="a blue star"))
    assert sorted(names) == [
        *("controlnet_edges", "text_encoder", "unet", "unet_controlled", "vae_decoder"),
        "vae_encoder",
    ]


def test_a_text_encoder_whose_texts_are_known_is_not_opened(pipe: Pipeline) -> None:
    taken(pipe, last=True)
    taken(pipe)
    assert opened(pipe) == {"unet", "vae_decoder"}


def test_a_damaged_network_ends_the_request_before_it_is_needed(pipe: Pipeline) -> None:
    (pipe.bundle.root / "vae_decoder/model.onnx").write_bytes(b"damaged")
    stream = pipe.stream(REQUEST)
    next(stream)
    wait_until(nothing_opens)
    with pytest.raises(BundleError, match=r"vae_decoder/model\.onnx: got 7 bytes, expected"):
        next(stream)


def test_the_request_after_it_opens_a_repaired_network(pipe: Pipeline) -> None:
    path = pipe.bundle.root / "vae_decoder/model.onnx"
    content = path.read_bytes()
    path.write_bytes(b"damaged")
    with pytest.raises(BundleError, match="got 7 bytes"):
        taken(pipe)
    path.write_bytes(content)
    taken(pipe)


def two_targets(bundle: Bundle) -> Pipeline:
    return Pipeline(bundle, Resolution(FIRST, others=(opening("cpu"),), num_threads=1))


@pytest.mark.parametrize("name", ["text_encoder", "unet", "vae_decoder"])
def test_a_target_that_does_not_open_a_network_is_replaced(
    name: str, bundle: Bundle, before_opening: Callable[[Hook], None]
) -> None:
    with Pipeline.open(bundle.root, "cpu", num_threads=1) as other:
        expected = taken(other)

    def fail(network: Runnable) -> None:
        if network.target == FIRST and network.source.name == name:
            raise EngineError(f"{name}: it does not open")

    before_opening(fail)
    with two_targets(bundle) as pipe:
        stream = pipe.stream(REQUEST)
        indices = []
        for step in stream:
            indices.append(step.index)
            wait_until(nothing_opens)  # the decoder has failed after the first step
            assert pipe.target == (FIRST if name == "vae_decoder" and step.index == 0 else LAST)
    assert indices == [0, 1, 2]
    np.testing.assert_array_equal(stream.result.latents, expected.latents)
    assert Refusal(FIRST, f"{name}: it does not open") in pipe.refusals
    assert stream.result.engine == f"cpu (after openvino: {name}: it does not open)"


def test_memory_that_lacked_in_the_background_may_be_there_later(
    pipe: Pipeline, before_opening: Callable[[Hook], None]
) -> None:
    tries = []

    def fail_once(network: Runnable) -> None:
        if network.source.name == "vae_decoder":
            tries.append(network)
            if len(tries) == 1:
                raise OutOfMemoryError("vae_decoder: no memory")

    before_opening(fail_once)
    stream = pipe.stream(REQUEST)
    next(stream)
    wait_until(nothing_opens)
    assert len(tries) == 1
    for _ in stream:
        pass
    assert len(tries) == 2


def test_a_request_that_ended_opens_no_more_networks(
    pipe: Pipeline, before_opening: Callable[[Hook], None]
) -> None:
    allowed, names = Event(), []

    def wait(network: Runnable) -> None:
        names.append(network.source.name)
        assert allowed.wait(10)

    before_opening(wait)
    control = {"edges": Image.new("RGB", (64, 64))}
    with pytest.raises(DeadlineExceeded, match="while 'text_encoder' was loaded"):
        pipe(REQUEST, control=control, deadline=0.1)
    allowed.set()
    wait_until(nothing_opens)
    assert sorted(names) == ["controlnet_edges", "text_encoder"]  # not the denoiser after it


def test_the_last_request_closes_what_it_has_used(pipe: Pipeline) -> None:
    expected = taken(pipe)
    for name in pipe.bundle.components:
        pipe.engines[name]
    pipe.engines.close_unused(["unet"])
    stream = pipe.stream(replace(REQUEST, prompt="a blue star"), last=True)
    for _ in stream:
        assert "text_encoder" not in opened(pipe)
        assert "unet" in opened(pipe)
    assert not opened(pipe) & {"text_encoder", "unet"}
    np.testing.assert_array_equal(taken(pipe).latents, expected.latents)  # it opens them again


def test_a_late_thread_opens_nothing_again(pipe: Pipeline, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Callable[[], object]] = []
    monkeypatch.setattr(lifetimes, "in_background", calls.append)
    stream = pipe.stream(REQUEST)
    next(stream)
    pipe.engines.close_unused(["unet"])
    open_denoiser, open_decoder = calls
    open_denoiser()
    assert opened(pipe) == {"text_encoder"}
    stream.close()
    open_decoder()
    assert opened(pipe) == {"text_encoder"}


def test_networks_open_when_they_are_needed_where_that_disturbs_others(
    networks: Networks, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lifetimes, "in_background", lambda call: pytest.fail("in the background"))
    with Pipeline(Bundle.open(folder), Resolution(Target("cuda")), networks.engines) as pipe:
        taken(pipe)
    with (
        Pipeline(Bundle.open(folder), Resolution(LAST), networks.engines) as pipe,
        pytest.raises(pytest.fail.Exception),
    ):
        taken(pipe)
