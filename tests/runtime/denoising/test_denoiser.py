"""What the UNet is fed at a step, and what is made of its answer."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.control import Control
from sdrt.denoising.denoiser import Denoiser
from sdrt.denoising.residuals import ControlNet, Residuals
from sdrt.errors import NonFiniteError
from sdrt.images.framing import Frame
from sdrt.samplers import Call
from sdrt.timings import Clock
from sdrt_engines import Array, FunctionEngine, Signature
from support.function_networks import (
    CONTROLLED_UNET,
    INPAINTING_UNET,
    RESIDUALS,
    UNET,
    Function,
    Networks,
    brightness,
    control,
    controlnet,
    predict,
    predict_controlled,
)
from support.pictures import picture

BATCH, ROWS = 2, 4
CALL = Call(np.random.default_rng(0).standard_normal((BATCH, 4, 2, 4), np.float32), 501)
TEXT = np.random.default_rng(1).standard_normal((ROWS, 77, 3), np.float32)


def predict_first(feeds: dict[str, Array]) -> dict[str, Array]:
    """What an inpainting UNet says here: it leaves what lies beside alone."""
    return predict({**feeds, "sample": feeds["sample"][:, :4]})


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

    networks = Networks(unet=(INPAINTING_UNET, predict_first))
    unet = networks.engines["unet"]
    Denoiser(unet, TEXT, Clock(), guidance_scale=3, beside=beside)(CALL, 0)
    row = np.concatenate([CALL.sample, beside], axis=1)
    np.testing.assert_array_equal(networks.feeds["unet"][0]["sample"], np.concatenate([row] * 2))


class Controlled:
    """A UNet with one ControlNet at scale 0.5, and what they were fed."""

    def __init__(self, unet: Signature, function: Function, net: Function = control) -> None:
        self.networks = Networks(unet=(unet, function), controlnet_edges=(controlnet(3), net))
        self.unet, self.clock = self.networks.engines["unet"], Clock()
        edges = Control(picture(32, 16), scale=0.5)
        edges_net = ControlNet(
            self.networks.engines["controlnet_edges"],
            edges,
            edges.conditioning(3, Frame((32, 16))),
            pools_globally=False,
        )
        self.residuals = Residuals(
            [edges_net], self.unet, TEXT, num_steps=2, guided=True, guess_mode=False
        )

    def fed(self, beside: Array | None = None) -> tuple[dict[str, Array], dict[str, Array]]:
        """To the UNet and to the ControlNet, at one step."""
        denoiser = Denoiser(
            self.unet,
            TEXT,
            self.clock,
            guidance_scale=3,
            residuals=self.residuals,
            beside=beside,
        )
        denoiser(CALL, 0)
        (unet,), (net,) = self.networks.feeds["unet"], self.networks.feeds["controlnet_edges"]
        return unet, net


def test_residuals_are_fed_beside_the_rest() -> None:
    controlled = Controlled(CONTROLLED_UNET, predict_controlled)
    feeds, net_feeds = controlled.fed()
    assert feeds.keys() == {spec.name for spec in CONTROLLED_UNET.inputs}
    for spec in UNET.inputs:
        np.testing.assert_array_equal(feeds[spec.name], net_feeds[spec.name])
    for name, residual in brightness(net_feeds).items():
        np.testing.assert_array_equal(feeds[name], residual * np.float32(0.5))
    timings = controlled.clock.timings()
    assert timings.controlnet > 0
    assert timings.unet > 0


def test_a_controlnet_sees_the_latents_alone_beside_an_inpainting_unet() -> None:
    both = Signature((*INPAINTING_UNET.inputs, *RESIDUALS), UNET.outputs)
    beside = np.ones((BATCH, 5, 2, 4), np.float32)
    feeds, net_feeds = Controlled(both, predict_first).fed(beside)
    np.testing.assert_array_equal(feeds["sample"][:, :4], net_feeds["sample"])
    assert (feeds["sample"][:, 4:] == 1).all()


def test_nan_names_the_controlnet_that_gave_it() -> None:
    def broken(feeds: dict[str, Array]) -> dict[str, Array]:
        return {name: residual * np.nan for name, residual in control(feeds).items()}

    with pytest.raises(NonFiniteError, match=r"^controlnet_edges: 128 of 128 output values"):
        Controlled(CONTROLLED_UNET, predict_controlled, broken).fed()


def test_nan_of_a_controlled_unet_names_the_unet() -> None:
    def broken(feeds: dict[str, Array]) -> dict[str, Array]:
        return {"out_sample": predict_controlled(feeds)["out_sample"] * np.nan}

    with pytest.raises(NonFiniteError, match=r"^unet: 128 of 128 output values"):
        Controlled(CONTROLLED_UNET, broken).fed()


def test_nan_names_the_unet() -> None:
    unet = FunctionEngine(UNET, lambda feeds: {"out_sample": feeds["sample"] * np.nan}, name="unet")
    with pytest.raises(NonFiniteError, match=r"^unet: 128 of 128 output values"):
        Denoiser(unet, TEXT, Clock(), guidance_scale=3)(CALL, 0)
