"""What the UNet is fed at a step, and what is made of its answer."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.clock import Clock
from sdrt.control import Control, ControlNet, Residuals
from sdrt.denoiser import Denoiser
from sdrt.errors import NonFiniteError
from sdrt.picture import Frame
from sdrt.samplers import Call
from sdrt_engines import Array, FunctionEngine
from support.function_networks import (
    CONTROLLED_UNET,
    INPAINTING_UNET,
    UNET,
    Networks,
    control,
    controlnet,
    predict,
    predict_controlled,
)
from support.pictures import picture

BATCH, ROWS = 2, 4
CALL = Call(np.random.default_rng(0).standard_normal((BATCH, 4, 2, 4), np.float32), 501)
TEXT = np.random.default_rng(1).standard_normal((ROWS, 77, 3), np.float32)


def test_a_plain_unet_is_fed_three_tensors() -> None:
    networks = Networks()
    denoiser = Denoiser(networks.engines["unet"], TEXT, Clock(), guidance_scale=3)
    denoiser(CALL, 0)
    (feeds,) = networks.feeds["unet"]
    assert feeds.keys() == {"sample", "timestep", "encoder_hidden_states"}
    np.testing.assert_array_equal(feeds["sample"], np.concatenate([CALL.sample] * 2))
    np.testing.assert_array_equal(feeds["timestep"], np.full(ROWS, 501, np.float32))
    np.testing.assert_array_equal(feeds["encoder_hidden_states"], TEXT)


@pytest.mark.parametrize("scale", [0, 1])
def test_without_guidance_each_image_is_one_row(scale: float) -> None:
    networks = Networks()
    answer = Denoiser(networks.engines["unet"], TEXT[:2], Clock(), guidance_scale=scale)(CALL, 0)
    (feeds,) = networks.feeds["unet"]
    assert {len(feed) for feed in feeds.values()} == {BATCH}
    np.testing.assert_array_equal(answer, predict(feeds)["out_sample"])


def test_guidance_leads_from_the_negative_prompt_to_the_prompt() -> None:
    networks = Networks()
    answer = Denoiser(networks.engines["unet"], TEXT, Clock(), guidance_scale=3)(CALL, 0)
    negative, positive = np.split(predict(networks.feeds["unet"][0])["out_sample"], 2)
    np.testing.assert_allclose(answer, negative + 3 * (positive - negative), rtol=1e-5)


def test_an_inpainting_unet_sees_what_lies_beside() -> None:
    beside = np.random.default_rng(2).standard_normal((BATCH, 5, 2, 4), np.float32)

    def predict_first(feeds: dict[str, Array]) -> dict[str, Array]:
        return predict({**feeds, "sample": feeds["sample"][:, :4]})

    networks = Networks(unet=(INPAINTING_UNET, predict_first))
    unet = networks.engines["unet"]
    Denoiser(unet, TEXT, Clock(), guidance_scale=3, beside=beside)(CALL, 0)
    row = np.concatenate([CALL.sample, beside], axis=1)
    np.testing.assert_array_equal(networks.feeds["unet"][0]["sample"], np.concatenate([row] * 2))


def test_residuals_are_fed_beside_the_rest() -> None:
    networks = Networks(
        unet=(CONTROLLED_UNET, predict_controlled), controlnet_edges=(controlnet(3), control)
    )
    unet, clock = networks.engines["unet"], Clock()
    pixels = Control(picture(32, 16), scale=0.5)
    net = ControlNet(
        networks.engines["controlnet_edges"],
        pixels,
        pixels.conditioning(3, Frame((32, 16))),
        pools_globally=False,
    )
    residuals = Residuals([net], unet, TEXT, num_steps=2, guided=True, guess_mode=False)
    denoiser = Denoiser(unet, TEXT, clock, guidance_scale=3, residuals=residuals)
    denoiser(CALL, 0)
    (feeds,), (net_feeds,) = networks.feeds["unet"], networks.feeds["controlnet_edges"]
    assert feeds.keys() == {spec.name for spec in CONTROLLED_UNET.inputs}
    for name in UNET.inputs:
        np.testing.assert_array_equal(feeds[name.name], net_feeds[name.name])
    for name, residual in control(net_feeds).items():
        np.testing.assert_array_equal(feeds[name], residual * np.float32(0.5))
    timings = clock.timings()
    assert timings.controlnet > 0
    assert timings.unet > 0


def test_a_controlnet_sees_the_latents_alone_beside_an_inpainting_unet() -> None:
    given: list[tuple[int, ...]] = []

    class Seen(Residuals):
        def __init__(self) -> None: ...

        def __call__(self, step: int, sample: Array, timestep: Array) -> dict[str, Array]:
            given.append(sample.shape)
            return {}

    def predict_first(feeds: dict[str, Array]) -> dict[str, Array]:
        return predict({**feeds, "sample": feeds["sample"][:, :4]})

    unet = FunctionEngine(INPAINTING_UNET, predict_first)
    beside = np.zeros((BATCH, 5, 2, 4), np.float32)
    denoiser = Denoiser(unet, TEXT, Clock(), guidance_scale=3, residuals=Seen(), beside=beside)
    denoiser(CALL, 0)
    assert given == [(ROWS, 4, 2, 4)]


def test_nan_names_the_unet() -> None:
    unet = FunctionEngine(UNET, lambda feeds: {"out_sample": feeds["sample"] * np.nan})
    with pytest.raises(NonFiniteError, match=r"^unet: 128 of 128 output values"):
        Denoiser(unet, TEXT, Clock(), guidance_scale=3)(CALL, 0)
