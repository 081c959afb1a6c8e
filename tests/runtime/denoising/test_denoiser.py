"""The asks of a denoiser at a step, and its use of the answers."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.ask import answered
from sdrt.control import Control
from sdrt.denoising.conditioning import GUIDED, UNGUIDED, Conditioning
from sdrt.denoising.controlnets import ControlChain, ControlNet
from sdrt.denoising.denoiser import Denoiser
from sdrt.errors import RequestError
from sdrt.images.framing import Frame
from sdrt.samplers.protocol import Call
from sdrt_engines import Array, Signature
from support.asking import run_on
from support.function_networks import INPAINTING_UNET, UNET, Networks, controlnet, predict
from support.images import sample_image
from support.onnx_writer import spec

BATCH, ROWS = 2, 4
CALL = Call(np.random.default_rng(0).standard_normal((BATCH, 4, 2, 4), np.float32), 501)
TEXT = np.random.default_rng(1).standard_normal((ROWS, 77, 3), np.float32)
CONDITIONING = Conditioning({"encoder_hidden_states": TEXT, "time_ids": TEXT[:, 0]}, GUIDED)
UNGUIDED_CONDITIONING = Conditioning({"encoder_hidden_states": TEXT[:BATCH]}, UNGUIDED)


def feeds_of(denoiser: Denoiser, call: Call = CALL) -> dict[str, Array]:
    link = denoiser.ask(call, 0).chain[-1]
    return {**link.constant.feeds, **link.changing}


def test_a_plain_unet_is_fed_three_tensors() -> None:
    denoiser = Denoiser("unet", UNET, CONDITIONING, guidance_scale=3)
    ask, feeds = denoiser.ask(CALL, 0), feeds_of(denoiser)
    assert ask.outputs == ("out_sample",)
    assert [(link.component, link.rows) for link in ask.chain] == [("unet", (0, 1, 2, 3))]
    assert feeds.keys() == {"sample", "timestep", "encoder_hidden_states"}
    np.testing.assert_array_equal(feeds["sample"], np.concatenate([CALL.sample] * 2))
    np.testing.assert_array_equal(feeds["timestep"], np.full(ROWS, 501, np.float32))
    np.testing.assert_array_equal(feeds["encoder_hidden_states"], TEXT)


def test_what_stays_the_same_is_one_object() -> None:
    denoiser = Denoiser("unet", UNET, CONDITIONING)
    first, second = (denoiser.ask(CALL, step).chain[-1].constant for step in (0, 1))
    assert first is second


def prediction(conditioning: Conditioning, guidance_scale: float) -> tuple[Array, Array]:
    """The output of the denoiser, and that of its network."""
    networks = Networks()
    denoiser = Denoiser("unet", UNET, conditioning, guidance_scale=guidance_scale)
    guided = answered(denoiser.predict(CALL, 0), run_on(unet=networks.engines["unet"]))
    return guided, predict(networks.feeds["unet"][0])["out_sample"]


def test_without_guidance_each_image_is_one_row() -> None:
    guided, rows = prediction(UNGUIDED_CONDITIONING, 1)
    assert len(rows) == BATCH
    np.testing.assert_array_equal(guided, rows)


def test_guidance_leads_from_the_negative_prompt_to_the_prompt() -> None:
    guided, rows = prediction(CONDITIONING, 3)
    negative, positive = np.split(rows, 2)
    np.testing.assert_allclose(guided, negative + 3 * (positive - negative), rtol=1e-5)


def test_an_inpainting_unet_sees_the_extra_channels() -> None:
    extra = np.random.default_rng(2).standard_normal((BATCH, 5, 2, 4), np.float32)
    feeds = feeds_of(Denoiser("unet", INPAINTING_UNET, CONDITIONING, extra=extra))
    row = np.concatenate([CALL.sample, extra], axis=1)
    np.testing.assert_array_equal(feeds["sample"], np.concatenate([row] * 2))


def test_controlnets_come_first_and_see_the_latents_alone() -> None:
    extra = np.ones((BATCH, 5, 2, 4), np.float32)
    edges = Control(sample_image(32, 16), scale=0.5)
    image = edges.conditioning(3, Frame((32, 16)))
    net = ControlNet("controlnet_edges", controlnet(3), edges, image)
    control = ControlChain([net], CONDITIONING, num_steps=2, guess_mode=False)
    denoiser = Denoiser("unet", INPAINTING_UNET, CONDITIONING, control=control, extra=extra)
    first, last = denoiser.ask(CALL, 0).chain
    assert (first.component, last.component) == ("controlnet_edges", "unet")
    np.testing.assert_array_equal(first.changing["sample"], last.changing["sample"][:, :4])
    np.testing.assert_array_equal(first.changing["timestep"], last.changing["timestep"])


@pytest.mark.parametrize("dtype", ["int64", "float32"])
def test_optimum_s_unets_take_one_timestep(dtype: str) -> None:
    signature = Signature((UNET.inputs[0], spec("timestep", dtype), UNET.inputs[2]), UNET.outputs)
    timestep = feeds_of(Denoiser("unet", signature, CONDITIONING))["timestep"]
    assert (timestep.shape, timestep.dtype.name, timestep.item()) == ((), dtype, 501)


def test_whole_timesteps_are_not_rounded() -> None:
    signature = Signature(
        (UNET.inputs[0], spec("timestep", "int64", "B"), UNET.inputs[2]), UNET.outputs
    )
    denoiser = Denoiser("unet", signature, CONDITIONING)
    with pytest.raises(RequestError, match=r"got timestep 501\.5, but this UNet takes integers"):
        feeds_of(denoiser, Call(CALL.sample, 501.5))
