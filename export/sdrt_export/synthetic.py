"""Checkpoints of a published architecture with seeded random weights, for measuring at full size.

The images are noise, but sizes, operators and the cost of a step are those of the real model, and
activations stay in the range of a trained one.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from sdrt.bundle.optimum_folder import MODEL_INDEX
from sdrt_export.architectures import SD15, Architecture, Config
from sdrt_export.checkpoints.clip_vocabulary import write_json
from sdrt_export.checkpoints.parts import (
    CONTROLNET,
    SCHEDULER,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    UNET,
    VAE,
    PartKind,
)
from sdrt_export.checkpoints.small_files import index_of, write_tokenizers


def make_checkpoint(folder: Path, architecture: Architecture = SD15, seed: int = 0) -> Path:
    """Writes a diffusers checkpoint with float16 safetensors into `folder`, which it returns.

    One tensor is in memory at a time. The tokenizers know single letters only.
    """
    random = torch.Generator().manual_seed(seed)
    for part, model in _models_of(architecture).items():
        _write_model(model, folder / part.folder, folder / f"{part.weights}.safetensors", random)
    scheduler = getattr(diffusers, architecture.scheduler["_class_name"])
    scheduler.from_config(architecture.scheduler).save_pretrained(folder / SCHEDULER)
    write_tokenizers(folder, architecture, merges=())
    write_json(folder / MODEL_INDEX, index_of(architecture))
    return folder


def make_controlnet(
    folder: Path,
    architecture: Architecture = SD15,
    seed: int = 0,
    differences: Config | None = None,
) -> Path:
    """Writes a diffusers ControlNet for the architecture's UNet, as `make_checkpoint` does.

    It is the UNet's first half, with `differences`; the layers that training initialises with zeros
    are random too.
    """
    with torch.device("meta"):  # names and shapes, no memory
        unet = UNet2DConditionModel(**architecture.unet)
        half = ControlNetModel.from_unet(unet, load_weights_from_unet=False)
        controlnet = ControlNetModel.from_config({**half.config, **(differences or {})})
    path = folder / f"{CONTROLNET.weights}.safetensors"
    _write_model(controlnet, folder, path, torch.Generator().manual_seed(seed))
    return folder


def _models_of(architecture: Architecture) -> dict[PartKind, nn.Module]:
    """The models on the meta device: names and shapes, no memory."""
    models: dict[PartKind, nn.Module] = {}
    with torch.device("meta"):
        if architecture.text_encoder is not None:
            models[TEXT_ENCODER] = CLIPTextModel(CLIPTextConfig(**architecture.text_encoder))
        if architecture.text_encoder_2 is not None:
            second = CLIPTextModelWithProjection(CLIPTextConfig(**architecture.text_encoder_2))
            models[TEXT_ENCODER_2] = second
        models[UNET] = UNet2DConditionModel(**architecture.unet)
        models[VAE] = AutoencoderKL(**architecture.vae)
    return models


def _write_model(model: Any, folder: Path, weights: Path, random: torch.Generator) -> None:
    """Writes the configuration, and random weights, of a model on the meta device."""
    if isinstance(model, CLIPTextModel | CLIPTextModelWithProjection):
        model.config.architectures = [type(model).__name__]
        model.config.save_pretrained(folder)
    else:
        model.save_config(folder)
    _write_weights(model, weights, random)


def _write_weights(model: nn.Module, path: Path, random: torch.Generator) -> None:
    """Writes a safetensors file tensor by tensor: the library's function needs all of them.

    Format: https://huggingface.co/docs/safetensors
    """
    shapes = {name: tensor.shape for name, tensor in model.state_dict().items()}
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        begin, end = end, end + 2 * math.prod(shape)
        header[name] = {"dtype": "F16", "shape": list(shape), "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name, shape in shapes.items():
            file.write(_draw(name, shape, random).numpy().astype("<f2", copy=False).data)


def _draw(name: str, shape: torch.Size, random: torch.Generator) -> torch.Tensor:
    """Norms that only normalise, biases of 0, and weights that keep the spread of their input."""
    if len(shape) == 1:
        return torch.full(shape, float(name.endswith(".weight")), dtype=torch.float16)
    fan_in = math.prod(shape[1:])
    return torch.randn(shape, generator=random).div_(math.sqrt(fan_in)).half()
