"""Requests with a budget of calls, through networks that are Python functions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, Control, Pipeline, Request, RequestError
from sdrt.denoising import forecast_plan
from sdrt.scheduler_names import SHORT_NAMES
from sdrt_engines import Array, resolve_target
from support.driving import assert_as_alone
from support.function_networks import (
    BLURRY,
    CIRCLE,
    CONTROLLED_UNET,
    NETWORKS,
    STAR,
    UNET,
    VAE_ENCODER,
    Networks,
    control,
    controlnet,
    encode_image,
    predict,
    predict_controlled,
)
from support.images import mask, sample_image

IMAGE, MASK = sample_image(64, 48), mask(64, 48, (16, 8, 40, 32))
SIZE: dict[str, Any] = {"width": 64, "height": 48, "seed": 3}
FORECAST: dict[str, Any] = {"num_inference_steps": 12, "forecast": 6, **SIZE}
KINDS: dict[str, dict[str, Any]] = {
    "text to image": SIZE,
    "no guidance": {"guidance_scale": 1, **SIZE},
    "image to image": {"image": IMAGE, "strength": 0.9},
    "inpainting": {"image": IMAGE, "mask_image": MASK, "strength": 0.9},
    "ControlNets": {"control": {"edges": Control(IMAGE, end=0.5)}, "guess_mode": True},
    "guidance interval": {"guidance_interval": (0, 0.6), **SIZE},
    "edited prompts": {"prompt": [f"{CIRCLE}[: blue:6]", STAR], "prompt_syntax": "a1111", **SIZE},
    "long prompts": {"prompt": ["red " * 100, STAR], "prompt_syntax": "a1111", **SIZE},
}


@pytest.fixture
def networks() -> Networks:
    refiner = {f"refiner.{name}": network for name, network in NETWORKS.items()}
    return Networks(
        vae_encoder=(VAE_ENCODER, encode_image),
        unet_controlled=(CONTROLLED_UNET, predict_controlled),
        controlnet_edges=(controlnet(3), control),
        **refiner,
    )


@pytest.fixture
def pipe(bundle: Bundle, networks: Networks) -> Pipeline:
    return Pipeline(bundle, resolve_target("cpu"), networks.engines)


@pytest.mark.parametrize("kind", KINDS)
def test_an_image_is_the_same_alone_and_in_a_batch(kind: str, pipe: Pipeline) -> None:
    options = {"prompt": [CIRCLE, STAR], **KINDS[kind], "num_inference_steps": 12, "forecast": 6}
    options |= {"scheduler": "euler_a", "seed": 40}
    batch = pipe.stream(Request(**options))
    list(batch)
    for i, prompt in enumerate(options["prompt"]):
        alone = pipe(Request(**{**options, "prompt": prompt, "seed": 40 + i}))
        np.testing.assert_array_equal(batch.result.latents[i : i + 1], alone.latents)
        assert batch.result.num_calls[i] == alone.num_calls[0]
    counts = zip(batch.result.num_calls, batch.result.num_forecasts, strict=True)
    assert len({calls + forecasts for calls, forecasts in counts}) == 1
    assert max(batch.result.num_forecasts) > 0


@pytest.mark.parametrize(
    "scheduler", [name for name in SHORT_NAMES if name not in forecast_plan._table()["refused"]]
)
def test_every_sampler_counts_calls(scheduler: str, pipe: Pipeline, networks: Networks) -> None:
    options: dict[str, Any] = {"scheduler": scheduler, "num_inference_steps": 10, **SIZE}
    exact = pipe(CIRCLE, **options)
    all_calls = pipe(CIRCLE, forecast=exact.num_calls[0], **options)
    np.testing.assert_array_equal(all_calls.latents, exact.latents)
    forecast, again = (pipe(CIRCLE, forecast=8, **options) for _ in range(2))
    np.testing.assert_array_equal(again.latents, forecast.latents)
    assert forecast.num_calls[0] + forecast.num_forecasts[0] == exact.num_calls[0]
    results = (exact, all_calls, forecast, again)
    assert networks.num_runs["unet"] == sum(each.num_calls[0] for each in results)


def test_generations_share_runs_whoever_forecasts(pipe: Pipeline) -> None:
    requests = {
        "exact": Request(CIRCLE, num_inference_steps=12, **SIZE),
        **{str(budget): Request(STAR, **{**FORECAST, "forecast": budget}) for budget in (5, 7)},
        "interval": Request(STAR, num_inference_steps=12, guidance_interval=(0.3, 0.7), **SIZE),
    }
    runs = assert_as_alone(pipe, requests)
    assert any(len(names) == 4 for names, _ in runs)


def test_a_forecast_runs_no_network(pipe: Pipeline, networks: Networks) -> None:
    steps = list(pipe.stream(CIRCLE, control={"edges": IMAGE}, **FORECAST))
    runs = networks.num_runs
    assert len(steps) == 12
    assert runs["unet_controlled"] == runs["controlnet_edges"] < 12
    assert all(len(step.preview()) == 1 for step in steps)


def test_after_an_edit_of_the_prompt_the_model_is_asked_twice(
    pipe: Pipeline, networks: Networks
) -> None:
    options: dict[str, Any] = {**FORECAST, "prompt_syntax": "a1111"}
    timesteps = [step.timestep for step in pipe.stream(CIRCLE, **options)]
    calls = []
    for prompt in (CIRCLE, f"{CIRCLE}[: blue:6]"):  # the edit begins with call 7
        networks.feeds["unet"].clear()
        pipe(prompt, **options)
        calls.append([timesteps.index(feeds["timestep"][0]) for feeds in networks.feeds["unet"]])
    assert calls == [[0, 1, 4, 6, 8, 11], [0, 1, 4, 6, 7, 8, 11]]


def test_a_guard_repairs_a_plan_that_does_not_hold(bundle: Bundle) -> None:
    """A model whose predictions jump is asked at every call but the first after each jump."""

    def jump(feeds: dict[str, Array]) -> dict[str, Array]:
        sign = np.sign(np.sin(feeds["timestep"] / 40)).reshape(-1, 1, 1, 1)
        return {"out_sample": predict(feeds)["out_sample"] * sign.astype(np.float32) * 9}

    smooth, jumping = (
        Pipeline(bundle, resolve_target("cpu"), Networks(unet=(UNET, unet)).engines)(
            CIRCLE, **FORECAST
        )
        for unet in (predict, jump)
    )
    assert jumping.num_calls[0] > smooth.num_calls[0]


def test_a_refiner_has_a_history_of_its_own(bundle: Bundle, networks: Networks) -> None:
    pipe = Pipeline(bundle.refined_by(bundle), resolve_target("cpu"), networks.engines)
    result = pipe(CIRCLE, refiner_start=0.5, num_inference_steps=20, forecast=12, **SIZE)
    runs = networks.num_runs
    assert runs["unet"] + runs["refiner.unet"] == result.num_calls[0]
    assert result.num_calls[0] + result.num_forecasts[0] == 20
    first = [feeds["timestep"][0] for feeds in networks.feeds["refiner.unet"][:2]]
    exact = [step.timestep for step in pipe.stream(CIRCLE, num_inference_steps=20, **SIZE)]
    assert first == exact[10:12]


def test_without_forecasts_every_call_is_the_model_s(pipe: Pipeline) -> None:
    result = pipe([CIRCLE, STAR], num_inference_steps=5, **SIZE)
    assert (result.num_calls, result.num_forecasts) == ((5, 5), (0, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"forecast": 3}, "forecast: got 3, expected 4 to 12, as ddim makes 12 calls here"),
        ({"forecast": 13}, "forecast: got 13, expected 4 to 12, as ddim makes 12 calls here"),
        (
            {"forecast": 12, "scheduler": "heun"},
            None,
        ),
        (
            {"forecast": 5, "scheduler": "heun"},
            "forecast: got 5, expected 6 to 23, as heun makes 23 calls here",
        ),
        (
            {"forecast": 9, "image": IMAGE, "strength": 0.5},
            "forecast: got 9, expected 4 to 6, as ddim makes 6 calls here",
        ),
        ({"forecast": 0}, "forecast: got 0, expected a whole number from 1 to 2000"),
        ({"forecast": 4.5}, "forecast: got 4.5, expected a whole number from 1 to 2000"),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused_before_any_work(
    options: dict[str, Any], message: str | None, pipe: Pipeline, networks: Networks
) -> None:
    if message is None:
        pipe.resolve(Request(CIRCLE, num_inference_steps=12, **SIZE, **options))
        return
    with pytest.raises(RequestError) as caught:
        pipe.stream(CIRCLE, num_inference_steps=12, **SIZE, **options)
    assert str(caught.value).startswith(message)
    assert not any(networks.num_runs.values())


@pytest.mark.parametrize(("guidance_scale", "is_noted"), [(3, False), (7.5, True)])
def test_a_sampler_that_gains_little_is_noted(
    guidance_scale: float, is_noted: bool, pipe: Pipeline
) -> None:
    sampler = forecast_plan._table()["no gain"][0]
    options = {"num_inference_steps": 20, "guidance_scale": guidance_scale, **SIZE}
    result = pipe(CIRCLE, scheduler=sampler, forecast=10, **options)
    notes = [note.message for note in result.notes if note.code == "forecast_no_gain"]
    expected = (
        f"forecast: with {sampler} at guidance 7.5 fewer steps were as exact with about as many "
        "calls"
    )
    assert notes == ([expected] if is_noted else [])


def test_a_png_records_the_budget(pipe: Pipeline, tmp_path: Path) -> None:
    from sdrt.metadata.png import read_record

    pipe(CIRCLE, negative_prompt=BLURRY, guidance_interval=(0.1, 0.75), **FORECAST).save(
        tmp_path / "out.png"
    )
    parameters = read_record(tmp_path / "out.png").parameters
    assert parameters["forecast"] == 6
    assert tuple(parameters["guidance_interval"]) == (0.1, 0.75)
