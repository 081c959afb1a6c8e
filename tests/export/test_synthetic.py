"""Synthetic checkpoints: the published sizes, weights that keep numbers sane, a normal export."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextConfig, CLIPTextModel

from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.synthetic import SD15, make_checkpoint, make_controlnet

pytestmark = pytest.mark.export

NARROW = replace(
    SD15,
    text_encoder=SD15.text_encoder
    | {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4, "vocab_size": 600},
    unet=SD15.unet | {"block_out_channels": (32, 32, 64, 64), "cross_attention_dim": 32},
    vae=SD15.vae | {"block_out_channels": (32, 32, 32, 64)},
)


@pytest.mark.parametrize(
    ("make", "num_parameters"),  # of the published checkpoint
    [
        (lambda: UNet2DConditionModel(**SD15.unet), 859_520_964),
        (lambda: AutoencoderKL(**SD15.vae), 83_653_863),
        (lambda: CLIPTextModel(CLIPTextConfig(**SD15.text_encoder)), 123_060_480),
        (lambda: ControlNetModel.from_unet(UNet2DConditionModel(**SD15.unet)), 361_279_120),
    ],
)
def test_the_sizes_are_the_published_ones(
    make: Callable[[], torch.nn.Module], num_parameters: int
) -> None:
    with torch.device("meta"):
        model = make()
    assert sum(math.prod(weight.shape) for weight in model.parameters()) == num_parameters


def test_diffusers_generates_with_one_and_sdrt_accepts_it(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "synthetic", NARROW)

    checkpoint = checkpoint_from_source(folder)
    pipeline = StableDiffusionPipeline.from_pretrained(folder).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a red circle", height=64, width=64, num_inference_steps=2, output_type="np"
    ).images

    assert checkpoint.family.name == "stable-diffusion-1"
    assert 0.1 < image.std() < 0.5


def test_a_controlnet_fits_the_checkpoint(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path, NARROW)
    net = ControlNetModel.from_pretrained(make_controlnet(folder / "controlnet_edges", NARROW))
    (found,) = checkpoint_from_source(folder).controlnets
    assert found.name == "edges"
    assert net.controlnet_mid_block.weight.std() > 0.1, "nothing of it is zero"


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, second, other = (
        (make_checkpoint(tmp_path / name, NARROW, seed) / "vae").glob("*.safetensors")
        for name, seed in (("first", 0), ("second", 0), ("other", 1))
    )
    content = next(first).read_bytes()
    assert next(second).read_bytes() == content
    assert next(other).read_bytes() != content
