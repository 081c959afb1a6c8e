"""Requests step by step: what runs when, previews, cancelling, and where the time goes."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest

from sdrt import Pipeline, Request, SdrtError
from sdrt_engines import Array
from support.function_networks import (
    CIRCLE,
    STAR,
    UNET,
    Networks,
    pipeline_of,
    pixels,
    predict,
)


def test_nothing_is_computed_before_the_first_step_is_taken(
    pipe: Pipeline, networks: Networks
) -> None:
    stream = pipe.stream(CIRCLE, num_inference_steps=3, seed=0)
    assert networks.num_runs == {"text_encoder": 0, "unet": 0, "vae_decoder": 0}
    next(stream)
    assert networks.num_runs == {"text_encoder": 1, "unet": 1, "vae_decoder": 0}


def test_steps_count_up_and_end_with_the_result(pipe: Pipeline) -> None:
    stream = pipe.stream(Request(CIRCLE, num_inference_steps=4, seed=0))
    steps = list(stream)
    assert [(step.index, step.total) for step in steps] == [(0, 4), (1, 4), (2, 4), (3, 4)]
    assert [step.timestep for step in steps] == [751, 501, 251, 1]
    np.testing.assert_array_equal(steps[-1].latents, stream.result.latents)
    assert next(stream, None) is None
    assert stream.result.seeds == (0,)


def test_previews_approach_the_image(pipe: Pipeline) -> None:
    stream = pipe.stream([CIRCLE, STAR], num_inference_steps=6, seed=3)
    previews = [pixels(step.preview()) for step in stream]
    images = pixels(stream.result.images)
    assert {preview.shape for preview in previews} == {(2, 128, 128, 3)}
    far, near = (
        abs(preview.astype(int) - images).mean() for preview in (previews[0], previews[-1])
    )
    assert near < far / 4


def test_a_preview_can_be_asked_for_later(pipe: Pipeline) -> None:
    first, second, *_ = pipe.stream(CIRCLE, num_inference_steps=3, seed=0)
    (again, *_) = pipe.stream(CIRCLE, num_inference_steps=3, seed=0)
    np.testing.assert_array_equal(pixels(first.preview()), pixels(again.preview()))
    assert (pixels(first.preview()) != pixels(second.preview())).any()


def test_leaving_the_loop_cancels(pipe: Pipeline, networks: Networks) -> None:
    stream = pipe.stream(CIRCLE, num_inference_steps=10, seed=0)
    for step in stream:
        if step.index == 2:
            break
    assert networks.num_runs == {"text_encoder": 1, "unet": 3, "vae_decoder": 0}
    with pytest.raises(SdrtError, match="has not finished: take all of its steps"):
        _ = stream.result
    stream.close()
    assert next(stream, None) is None
    assert networks.num_runs["unet"] == 3


def test_timings_add_up(folder: Path, networks: Networks) -> None:
    def slow(feeds: dict[str, Array]) -> dict[str, Array]:
        time.sleep(0.01)
        return predict(feeds)

    networks = Networks(unet=(UNET, slow))
    stream = pipeline_of(folder, networks).stream(CIRCLE, num_inference_steps=3, seed=0)
    start = time.perf_counter()
    for _ in stream:
        time.sleep(0.05)  # the caller's time is not the request's
    elapsed = time.perf_counter() - start
    timings = stream.result.timings
    assert sum(timings.seconds.values()) + timings.host == pytest.approx(timings.total)
    assert min(timings.seconds.values()) >= 0
    assert timings.host > 0
    assert timings.seconds.keys() == {"loading", "text_encoder", "denoiser", "vae_decoder"}
    assert timings.seconds["denoiser"] >= 0.03
    assert timings.total <= elapsed - 0.15


def test_the_time_before_the_first_step_is_the_caller_s(pipe: Pipeline) -> None:
    stream = pipe.stream(CIRCLE, num_inference_steps=1, seed=0)
    time.sleep(0.2)
    list(stream)
    assert stream.result.timings.total < 0.2
