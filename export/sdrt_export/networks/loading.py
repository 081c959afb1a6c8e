"""Reads the models of a checkpoint with diffusers and transformers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.utils import is_accelerate_available
from torch import nn
from transformers import CLIPTextModel

from sdrt import tensor_names as names
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.controlnet import CONFIG, ControlNetCheckpoint
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.controlnet import ControlledUNet, ControlNet
from sdrt_export.networks.network import Network
from sdrt_export.networks.text_encoder import TextEncoder
from sdrt_export.networks.unet import UNet
from sdrt_export.networks.vae import VaeDecoder, VaeEncoder

MODEL_OF_PART = {  # in the order of a picture's way
    names.TEXT_ENCODER: "text_encoder",
    names.UNET: "unet",
    names.VAE_DECODER: "vae",
    names.VAE_ENCODER: "vae",
}


@dataclass(frozen=True)
class Part:
    """What fills one folder of a bundle: a model, as one network or as several over its weights.

    `networks` reads the model; each call does. Of several networks each takes more inputs than
    the one before it.
    """

    name: str
    config: Path
    networks: Callable[[], list[Network]]


def parts_from_checkpoint(checkpoint: Checkpoint) -> list[Part]:
    """Its own parts, and then the ControlNets that it brings."""
    parts = [part_from_checkpoint(name, checkpoint) for name in MODEL_OF_PART]
    return [*parts, *map(part_from_controlnet, checkpoint.controlnets)]


def part_from_checkpoint(name: str, checkpoint: Checkpoint) -> Part:
    """The part called `name`, one of `MODEL_OF_PART`."""
    config = checkpoint.folder / MODEL_OF_PART[name] / CONFIG
    return Part(name, config, lambda: networks_from_checkpoint(name, checkpoint))


def part_from_controlnet(controlnet: ControlNetCheckpoint) -> Part:
    name = names.controlnet(controlnet.name)
    return Part(name, controlnet.folder / CONFIG, lambda: [network_from_controlnet(controlnet)])


def networks_from_checkpoint(name: str, checkpoint: Checkpoint) -> list[Network]:
    """The networks of the part called `name`, one of `MODEL_OF_PART`.

    CheckpointError where a weight is missing, or not of the shape that the configuration asks for.
    """
    model = _model_from_checkpoint(MODEL_OF_PART[name], checkpoint)
    match name:
        case names.TEXT_ENCODER:
            return [TextEncoder(model)]
        case names.UNET:
            return [UNet(model), ControlledUNet(model)]
        case names.VAE_DECODER:
            return [VaeDecoder(model)]
        case names.VAE_ENCODER:
            return [VaeEncoder(model)]
    raise ValueError(name)


def network_from_controlnet(controlnet: ControlNetCheckpoint) -> Network:
    """The network of a ControlNet. CheckpointError as above."""
    title = f"the ControlNet '{controlnet.source}'"
    model = _read_diffusers(ControlNetModel, controlnet.folder, controlnet.weights.variant, title)
    return ControlNet(model, controlnet.name)


def _model_from_checkpoint(model: str, checkpoint: Checkpoint) -> nn.Module:
    place = checkpoint.folder / model, checkpoint.weights[model].variant
    title = f"the {model} of '{checkpoint.source}'"
    if model == "text_encoder":
        # The eager attention has its scale as a number in the graph; the fused one computes it.
        return _read(CLIPTextModel, *place, title, attn_implementation="eager")
    kind = {"unet": UNet2DConditionModel, "vae": AutoencoderKL}[model]
    return _read_diffusers(kind, *place, title)


def _read_diffusers(kind: Any, folder: Path, variant: str | None, title: str) -> nn.Module:
    # diffusers complains where it is left to find out that accelerate is not installed
    return _read(kind, folder, variant, title, low_cpu_mem_usage=is_accelerate_available())


def _read(kind: Any, folder: Path, variant: str | None, title: str, **options: Any) -> nn.Module:
    """The model of class `kind`; `title` is how errors call it."""
    try:
        module, report = kind.from_pretrained(
            folder,
            variant=variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except Exception as error:  # a configuration can break them anywhere
        message = " ".join(str(error).split())
        raise CheckpointError(f"{title} does not load: {message}") from error
    missing = sorted(report["missing_keys"])
    if missing:  # diffusers and transformers go on with random numbers
        raise CheckpointError(
            f"{title} lacks {len(missing)} weights, the first is {missing[0]}: "
            "save or download it again"
        )
    assert isinstance(module, nn.Module)
    return module
