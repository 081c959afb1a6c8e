"""Guidance in a part of the steps, through networks that are Python functions."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, Pipeline, Request, RequestError
from sdrt_engines import Array, resolve_target
from support.function_networks import (
    BLURRY,
    CIRCLE,
    CONTROLLED_UNET,
    NETWORKS,
    STAR,
    VAE_ENCODER,
    Networks,
    control,
    controlnet,
    encode_image,
    predict_controlled,
)
from support.images import sample_image

IMAGE = sample_image(64, 48)
SHORT: dict[str, Any] = {"num_inference_steps": 10, "seed": 0, "width": 64, "height": 48}


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


def rows(networks: Networks, name: str = "unet") -> str:
    """The number of rows of each run."""
    return "".join(str(len(feeds["sample"])) for feeds in networks.feeds[name])


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((0.2, 0.8), "1122222211"),
        ((0, 0.3), "2221111111"),
        ((0.7, 1), "1111111222"),
        ((0.25, 0.75), "1112222111"),  # whole steps
        ((0, 1), "2222222222"),
        ((0.01, 0.05), "1111111111"),
    ],
)
def test_outside_it_only_the_prompt_s_row_runs(
    interval: tuple[float, float], expected: str, pipe: Pipeline, networks: Networks
) -> None:
    pipe(CIRCLE, guidance_interval=interval, **SHORT)
    assert rows(networks) == expected
    context = [feeds["encoder_hidden_states"] for feeds in networks.feeds["unet"]]
    for each in context:
        np.testing.assert_array_equal(each[-1], context[0][-1])


def test_the_whole_interval_changes_nothing(pipe: Pipeline) -> None:
    plain, whole = (
        pipe(CIRCLE, negative_prompt=BLURRY, guidance_interval=interval, **SHORT).latents
        for interval in (None, (0, 1))
    )
    np.testing.assert_array_equal(plain, whole)


def test_guided_steps_are_guided_and_the_others_are_not(pipe: Pipeline) -> None:
    options = {**SHORT, "scheduler": "euler", "negative_prompt": BLURRY}

    def steps(**others: Any) -> list[Array]:
        return [step.latents for step in pipe.stream(CIRCLE, **options | others)]

    early = steps(guidance_interval=(0, 0.5), guidance_rescale=0.7)
    np.testing.assert_array_equal(early[:5], steps(guidance_rescale=0.7)[:5])
    late = steps(guidance_interval=(0.5, 1))
    np.testing.assert_array_equal(late[:5], steps(guidance_scale=1, negative_prompt=None)[:5])
    assert abs(late[5] - steps(guidance_scale=1, negative_prompt=None)[5]).max() > 0.01


@pytest.mark.parametrize("guess_mode", [False, True])
def test_controlnets_run_on_the_same_rows(
    guess_mode: bool, pipe: Pipeline, networks: Networks
) -> None:
    options = {"control": {"edges": IMAGE}, "guess_mode": guess_mode, **SHORT}
    pipe(CIRCLE, guidance_interval=(0, 0.5), **options)
    assert rows(networks, "unet_controlled") == "2222211111"
    assert rows(networks, "controlnet_edges") == "1" * 10 if guess_mode else "2222211111"


def test_a_refiner_s_steps_count(bundle: Bundle, networks: Networks) -> None:
    pipe = Pipeline(bundle.refined_by(bundle), resolve_target("cpu"), networks.engines)
    pipe(CIRCLE, refiner_start=0.6, guidance_interval=(0.3, 0.8), **SHORT)
    assert (rows(networks), rows(networks, "refiner.unet")) == ("111222", "2211")


@pytest.mark.parametrize("syntax", ["plain", "a1111"])
def test_an_image_is_the_same_alone_and_in_a_batch(syntax: Any, pipe: Pipeline) -> None:
    options = {"guidance_interval": (0.2, 0.8), "scheduler": "euler_a", "prompt_syntax": syntax}
    prompts = [CIRCLE, STAR, "red " * 100]
    batch = pipe(prompts, **options | SHORT | {"seed": 7})
    for i, prompt in enumerate(prompts):
        alone = pipe(prompt, **options | SHORT | {"seed": 7 + i})
        np.testing.assert_array_equal(batch.latents[i : i + 1], alone.latents)


@pytest.mark.parametrize(
    ("interval", "message"),
    [
        ((0.8, 0.2), "got start 0.8 and end 0.2, expected a start before the end"),
        ((0.5, 0.5), "got start 0.5 and end 0.5, expected a start before the end"),
        ((-0.1, 0.5), "[0] (start): got -0.1, expected a number from 0 to 1"),
        ((0, 1.5), "[1] (end): got 1.5, expected a number from 0 to 1"),
        ((0, float("nan")), "[1] (end): got nan, expected a number from 0 to 1"),
        ((0.2,), "got (0.2,), expected a pair (start, end), each a number from 0 to 1"),
        ("0.2:0.8", "got '0.2:0.8', expected a pair (start, end), each a number from 0 to 1"),
        (0.5, "got 0.5, expected a pair (start, end), each a number from 0 to 1"),
    ],
)
def test_a_wrong_interval_is_refused(interval: Any, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        Request(CIRCLE, guidance_interval=interval)
    separator = "" if message.startswith("[") else ": "
    assert str(caught.value) == f"guidance_interval{separator}{message}"


def test_an_interval_without_effect_is_noted(pipe: Pipeline) -> None:
    unguided = pipe(CIRCLE, guidance_interval=(0.2, 0.8), guidance_scale=1, **SHORT)
    assert "guidance_interval: has no effect without guidance (guidance_scale is 1)" in [
        str(note) for note in unguided.notes
    ]
    empty = pipe(CIRCLE, guidance_interval=(0.01, 0.05), **SHORT)
    assert (
        "guidance_interval: contains none of the 10 calls completely, so there is no guidance "
        "(0.01 to 0.05)"
    ) in [str(note) for note in empty.notes]
