"""Synthetic checkpoints: the published sizes, weights that keep numbers sane, a normal export."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    DiffusionPipeline,
    UNet2DConditionModel,
)
from safetensors import safe_open
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdrt_export.architectures import (
    MID,
    SD15,
    SD21,
    SD_TURBO,
    SDXL,
    SDXL_REFINER,
    SDXL_TURBO,
    SMALL,
    Architecture,
    Config,
)
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.synthetic import make_checkpoint, make_controlnet

pytestmark = [
    pytest.mark.export,
    # diffusers' Euler, with NumPy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

_ENCODER = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_attention_heads": 4,
    "num_hidden_layers": 2,
    "vocab_size": 600,
}


def narrow(architecture: Architecture) -> Architecture:
    """The architecture with fewer channels."""
    encoders = [architecture.text_encoder, architecture.text_encoder_2]
    width = 32 * sum(encoder is not None for encoder in encoders)
    levels = len(architecture.unet["block_out_channels"])
    unet = {
        **architecture.unet,
        "block_out_channels": (*(32,) * (levels - 1), 64),
        "attention_head_dim": 4,
        "cross_attention_dim": width,
    }
    second = architecture.text_encoder_2
    if second is not None:
        second = {**second, **_ENCODER, "projection_dim": 16}
        unet |= {"transformer_layers_per_block": 1, "addition_time_embed_dim": 8}
        scored = "requires_aesthetics_score" in architecture.options
        unet["projection_class_embeddings_input_dim"] = 16 + 8 * (5 if scored else 6)
    first = architecture.text_encoder
    return replace(
        architecture,
        text_encoder=None if first is None else {**first, **_ENCODER},
        text_encoder_2=second,
        unet=unet,
        vae={**architecture.vae, "block_out_channels": (32, 32, 32, 64)},
    )


def size_of(kind: type[torch.nn.Module], config: Config | None) -> int:
    with torch.device("meta"):
        text = issubclass(kind, CLIPTextModel | CLIPTextModelWithProjection)
        model = kind(CLIPTextConfig(**(config or {}))) if text else kind(**(config or {}))
    return sum(math.prod(weight.shape) for weight in model.parameters())


@pytest.mark.parametrize(
    ("kind", "config", "num_parameters"),  # of the published checkpoint
    [
        (UNet2DConditionModel, SD15.unet, 859_520_964),
        (AutoencoderKL, SD15.vae, 83_653_863),
        (CLIPTextModel, SD15.text_encoder, 123_060_480),
        (UNet2DConditionModel, SD21.unet, 865_910_724),
        (CLIPTextModel, SD21.text_encoder, 340_387_840),
        (UNet2DConditionModel, SDXL.unet, 2_567_463_684),
        (CLIPTextModelWithProjection, SDXL.text_encoder_2, 694_659_840),
    ],
    ids=lambda value: getattr(value, "__name__", "") if not isinstance(value, int) else str(value),
)
def test_the_sizes_are_the_published_ones(
    kind: type[torch.nn.Module], config: Config, num_parameters: int
) -> None:
    assert size_of(kind, config) == num_parameters


def test_the_refiner_has_the_published_size() -> None:
    """Its float16 file has 4.52 GB."""
    size = size_of(UNet2DConditionModel, SDXL_REFINER.unet)
    assert 2 * size == pytest.approx(4.52e9, rel=0.005)


@pytest.mark.parametrize(
    ("architecture", "differences", "gigabytes"),  # of the published float16 file
    [(SD15, {}, 0.7226), (SDXL, {}, 2.5), (SDXL, MID, 0.545)],
    ids=["sd15", "sdxl", "mid"],
)
def test_controlnets_have_the_published_sizes(
    architecture: Architecture, differences: Config, gigabytes: float
) -> None:
    with torch.device("meta"):
        half = ControlNetModel.from_unet(
            UNet2DConditionModel(**architecture.unet), load_weights_from_unet=False
        )
    size = size_of(ControlNetModel, {**half.config, **differences})
    assert 2e-9 * size == pytest.approx(gigabytes, rel=0.02)


@pytest.mark.parametrize(
    ("architecture", "family"),
    [
        (SD15, "stable-diffusion-1"),
        (SD21, "stable-diffusion-1"),  # its text encoder is too narrow to be recognised
        (SDXL, "stable-diffusion-xl"),
        (SDXL_TURBO, "stable-diffusion-xl"),
    ],
    ids=["sd15", "sd21", "sdxl", "sdxl_turbo"],
)
def test_diffusers_generates_with_one_and_sdrt_accepts_it(
    architecture: Architecture, family: str, tmp_path: Path
) -> None:
    folder = make_checkpoint(tmp_path / "synthetic", narrow(architecture))

    checkpoint = checkpoint_from_source(folder)
    pipeline = DiffusionPipeline.from_pretrained(folder).to(torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    image = pipeline(
        "a red circle", height=64, width=64, num_inference_steps=2, output_type="np"
    ).images

    assert checkpoint.family.name == family
    assert 0.1 < image.std() < 0.5
    assert type(pipeline.scheduler).__name__ == architecture.scheduler["_class_name"]


def test_the_refiner_has_one_text_encoder(tmp_path: Path) -> None:
    folder = make_checkpoint(tmp_path / "synthetic", narrow(SDXL_REFINER))
    assert checkpoint_from_source(folder).family.name == "stable-diffusion-xl-refiner"
    assert DiffusionPipeline.from_pretrained(folder).text_encoder is None
    assert not (folder / "tokenizer").exists()


@pytest.mark.parametrize(("pad", "folder"), [("<|endoftext|>", "tokenizer"), ("!", "tokenizer_2")])
def test_sdxl_pads_in_two_ways(pad: str, folder: str, tmp_path: Path) -> None:
    pipeline = DiffusionPipeline.from_pretrained(make_checkpoint(tmp_path / "it", narrow(SDXL)))
    assert getattr(pipeline, folder).pad_token == pad


def test_turbo_models_are_for_512_pixels() -> None:
    """And otherwise as the models that they are distilled from."""
    for turbo, teacher in ((SD_TURBO, SD21), (SDXL_TURBO, SDXL)):
        assert {**turbo.unet, "sample_size": 0} == {**teacher.unet, "sample_size": 0}
        assert turbo.unet["sample_size"] * 8 == 512
        assert turbo.scheduler["timestep_spacing"] == "trailing"


@pytest.mark.parametrize(
    ("architecture", "differences"),
    [(SD15, {}), (SDXL, {}), (SDXL, SMALL)],
    ids=["sd15", "sdxl", "small"],
)
def test_a_controlnet_fits_the_checkpoint(
    architecture: Architecture, differences: Config, tmp_path: Path
) -> None:
    thin = narrow(architecture)
    folder = make_checkpoint(tmp_path, thin)
    made = make_controlnet(folder / "controlnet_edges", thin, differences=differences)
    net = ControlNetModel.from_pretrained(made)
    (found,) = checkpoint_from_source(folder).controlnets
    assert found.name == "edges"
    assert net.controlnet_mid_block.weight.std() > 0.1, "nothing of it is zero"


def test_the_same_seed_gives_the_same_weights(tmp_path: Path) -> None:
    first, second, other = (
        (make_checkpoint(tmp_path / name, narrow(SD15), seed) / "vae").glob("*.safetensors")
        for name, seed in (("first", 0), ("second", 0), ("other", 1))
    )
    content = next(first).read_bytes()
    assert next(second).read_bytes() == content
    assert next(other).read_bytes() != content


PROGRAM = """
import resource, sys
from pathlib import Path
from sdrt_export.architectures import SDXL
from sdrt_export.synthetic import make_checkpoint
make_checkpoint(Path(sys.argv[1]), SDXL)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""
MAX_GIB = 3


@pytest.mark.full
def test_sdxl_is_written_in_three_gib(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "sdxl")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert int(result.stdout) / 2**20 < MAX_GIB  # KiB on Linux
    assert checkpoint_from_source(tmp_path / "sdxl").family.name == "stable-diffusion-xl"
    (weights,) = (tmp_path / "sdxl/unet").glob("*.safetensors")
    with safe_open(weights, framework="pt") as file:
        last = [*file.keys()][-1]
        assert file.get_tensor(last).dtype == torch.float16
