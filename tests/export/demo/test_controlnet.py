"""The demo's ControlNet: its start, the effect of its training, and the shipped one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from safetensors.torch import load_file
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

import sdrt_export
from sdrt_export.demo.controlnet import (
    FOLLOWING,
    OUTLINES_PER_FIGURE,
    ControlledLatents,
    latents_of_figures,
    new_controlnet,
    train_controlnet,
)
from sdrt_export.demo.denoising import BATCH, CAPTIONS_PER_LATENT
from sdrt_export.demo.text import tokens_from_captions

pytestmark = pytest.mark.export

CHECKPOINT = Path(sdrt_export.__file__).parent / "demo_checkpoint"


@pytest.fixture
def unet() -> UNet2DConditionModel:
    return UNet2DConditionModel.from_pretrained(CHECKPOINT / "unet").float()


@pytest.fixture(scope="module")
def tokenizer() -> CLIPTokenizer:
    return CLIPTokenizer.from_pretrained(CHECKPOINT / "tokenizer")


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("work")


@pytest.fixture(scope="module")
def latents(tokenizer: CLIPTokenizer, work: Path) -> ControlledLatents:
    vae = AutoencoderKL.from_pretrained(CHECKPOINT / "vae").float()
    return latents_of_figures(vae, tokenizer, work, num_figures=BATCH)


def test_it_starts_from_the_unets_encoder_and_changes_nothing(unet: UNet2DConditionModel) -> None:
    controlnet = new_controlnet(unet)
    own, theirs = controlnet.state_dict(), unet.state_dict()
    copied = [name for name in own if name in theirs]
    assert all(torch.equal(own[name], theirs[name]) for name in copied)
    assert {name.partition(".")[0] for name in own if name not in theirs} == {
        "controlnet_cond_embedding",
        "controlnet_down_blocks",
        "controlnet_mid_block",
    }

    generator = torch.Generator().manual_seed(1)
    sample = torch.randn(2, 4, 16, 16, generator=generator)
    text = torch.randn(2, 32, unet.config.cross_attention_dim, generator=generator)
    control = torch.rand(2, 3, 128, 128, generator=generator)
    with torch.no_grad():
        down, mid = controlnet(sample, 500, text, control, return_dict=False)
        controlled = unet(
            sample,
            500,
            text,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        assert torch.equal(controlled, unet(sample, 500, text).sample)


def test_the_training_set_is_kept_and_its_outlines_lie_on_the_shapes(
    latents: ControlledLatents, tokenizer: CLIPTokenizer, work: Path
) -> None:
    assert latents.samples.shape == (BATCH, 4, 16, 16)
    assert latents.tokens.shape == (BATCH, CAPTIONS_PER_LATENT, 32)
    assert latents.outlines.shape == (BATCH, OUTLINES_PER_FIGURE, 128, 128)
    lines = functional.adaptive_max_pool2d(latents.outlines.float(), 16) > 127
    shapes = functional.max_pool2d(latents.weights, 3, stride=1, padding=1) > 1
    assert not (lines & ~shapes).any()
    assert lines.flatten(2).any(-1).all()
    again = latents_of_figures(None, tokenizer, work)  # no VAE: nothing is encoded twice
    assert torch.equal(again.outlines, latents.outlines)


def test_training_changes_the_controlnet_alone(
    unet: UNet2DConditionModel, tokenizer: CLIPTokenizer, latents: ControlledLatents, tmp_path: Path
) -> None:
    encoder = CLIPTextModel.from_pretrained(CHECKPOINT / "text_encoder").float()
    controlnet = new_controlnet(unet)
    before = {name: value.clone() for name, value in unet.state_dict().items()}
    empty = tokens_from_captions(tokenizer, [""])
    schedule = replace(FOLLOWING, num_steps=3, num_warmup_steps=1)
    average = train_controlnet(controlnet, unet, encoder, latents, empty, tmp_path, schedule)

    assert all(torch.equal(before[name], value) for name, value in unet.state_dict().items())
    assert all(p.grad is None for p in [*unet.parameters(), *encoder.parameters()])
    assert average.controlnet_mid_block.weight.abs().max() > 0
    # Two zero convolutions precede the UNet, so the first layer learns from the third step on.
    assert controlnet.controlnet_cond_embedding.conv_in.weight.grad.abs().max() > 0


def test_the_shipped_one_is_small_and_fits_the_unet(unet: UNet2DConditionModel) -> None:
    folder = CHECKPOINT / "controlnet_edges"
    file = folder / "diffusion_pytorch_model.safetensors"
    own = load_file(file)
    assert {name: value.shape for name, value in own.items()} == {
        name: value.shape for name, value in new_controlnet(unet).state_dict().items()
    }
    assert all(torch.isfinite(value).all() for value in own.values())
    assert file.stat().st_size < 3.1e6
    assert np.mean([value.dtype == torch.float16 for value in own.values()]) == 1
