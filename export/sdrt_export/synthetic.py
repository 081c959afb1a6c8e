"""Checkpoints of a published architecture with seeded random weights, for measuring at full size.

The images are noise, but sizes, operators and the cost of a step are those of the real model, and
activations stay in the range of a trained one.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, ControlNetModel, PNDMScheduler, UNet2DConditionModel
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel

from sdrt.bundle.optimum_folder import MODEL_INDEX
from sdrt_export.checkpoints.parts import CONTROLNET, TEXT_ENCODER, UNET, VAE


@dataclass(frozen=True)
class Architecture:
    """The configurations of a checkpoint's parts, as in its `config.json` files."""

    text_encoder: dict[str, Any]
    unet: dict[str, Any]
    vae: dict[str, Any]
    scheduler: dict[str, Any]


# https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5: 123, 860 and 84 M parameters
SD15 = Architecture(
    text_encoder={
        "vocab_size": 49408,
        "hidden_size": 768,
        "intermediate_size": 3072,
        "projection_dim": 768,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
        "max_position_embeddings": 77,
        "hidden_act": "quick_gelu",
        "layer_norm_eps": 1e-5,
        "bos_token_id": 0,
        "eos_token_id": 2,
        "pad_token_id": 1,
    },
    unet={
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "norm_num_groups": 32,
    },
    vae={
        "sample_size": 512,
        "latent_channels": 4,
        "block_out_channels": (128, 256, 512, 512),
        "down_block_types": ("DownEncoderBlock2D",) * 4,
        "up_block_types": ("UpDecoderBlock2D",) * 4,
        "layers_per_block": 2,
        "norm_num_groups": 32,
        "scaling_factor": 0.18215,
    },
    scheduler={
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "beta_schedule": "scaled_linear",
        "set_alpha_to_one": False,
        "skip_prk_steps": True,
        "steps_offset": 1,
    },
)


PIPELINE = {
    "_class_name": "StableDiffusionPipeline",
    "_diffusers_version": diffusers.__version__,
    "feature_extractor": [None, None],
    "requires_safety_checker": False,
    "safety_checker": [None, None],
    "scheduler": ["diffusers", "PNDMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def make_checkpoint(folder: Path, architecture: Architecture = SD15, seed: int = 0) -> Path:
    """Writes a diffusers checkpoint with float16 safetensors into `folder`, which it returns.

    One model's weights are in memory at a time. The tokenizer knows single letters only.
    """
    random = torch.Generator().manual_seed(seed)
    with torch.device("meta"):  # names and shapes, no memory
        text_encoder = CLIPTextModel(CLIPTextConfig(**architecture.text_encoder))
        unet = UNet2DConditionModel(**architecture.unet)
        vae = AutoencoderKL(**architecture.vae)
    text_encoder.config.save_pretrained(folder / TEXT_ENCODER.folder)
    unet.save_config(folder / UNET.folder)
    vae.save_config(folder / VAE.folder)
    for part, model in ((TEXT_ENCODER, text_encoder), (UNET, unet), (VAE, vae)):
        _write_weights(model, folder / f"{part.weights}.safetensors", random)
    PNDMScheduler(**architecture.scheduler).save_pretrained(folder / "scheduler")
    _write_tokenizer(folder / "tokenizer", architecture.text_encoder["max_position_embeddings"])
    _write_json(folder / MODEL_INDEX, PIPELINE)
    return folder


def make_controlnet(folder: Path, architecture: Architecture = SD15, seed: int = 0) -> Path:
    """Writes a diffusers ControlNet for the architecture's UNet, as `make_checkpoint` does.

    It is the UNet's first half; the layers that training initialises with zeros are random too.
    """
    with torch.device("meta"):
        unet = UNet2DConditionModel(**architecture.unet)
        controlnet = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
    controlnet.save_config(folder)
    path = folder / f"{CONTROLNET.weights}.safetensors"
    _write_weights(controlnet, path, torch.Generator().manual_seed(seed))
    return folder


def _write_weights(model: nn.Module, path: Path, random: torch.Generator) -> None:
    """Writes random weights for a model on the meta device."""
    weights = {name: _draw(name, like, random) for name, like in model.state_dict().items()}
    save_file(weights, path, metadata={"format": "pt"})


def _draw(name: str, like: torch.Tensor, random: torch.Generator) -> torch.Tensor:
    """Norms that only normalise, biases of 0, and weights that keep the spread of their input."""
    if like.ndim == 1:
        return torch.full(like.shape, float(name.endswith(".weight")), dtype=torch.float16)
    fan_in = math.prod(like.shape[1:])
    return torch.randn(like.shape, generator=random).div_(math.sqrt(fan_in)).half()


def _write_tokenizer(folder: Path, max_length: int) -> None:
    folder.mkdir()
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    start, end = "<|startoftext|>", "<|endoftext|>"
    tokens = [*letters, *(f"{letter}</w>" for letter in letters), start, end]
    _write_json(folder / "vocab.json", {token: number for number, token in enumerate(tokens)})
    (folder / "merges.txt").write_text("#version: 0.2\n", encoding="utf-8")
    roles = {"bos_token": start, "eos_token": end, "unk_token": end, "pad_token": end}
    _write_json(folder / "special_tokens_map.json", roles)
    kind = {"tokenizer_class": "CLIPTokenizer", "model_max_length": max_length}
    _write_json(folder / "tokenizer_config.json", roles | kind)


def _write_json(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False), encoding="utf-8")
