"""Reads the models of a checkpoint with diffusers and transformers."""

from __future__ import annotations

from typing import Any

from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.utils import is_accelerate_available
from torch import nn
from transformers import CLIPTextModel

from sdrt import tensor_names as names
from sdrt_export.checkpoint import Checkpoint
from sdrt_export.errors import CheckpointError
from sdrt_export.networks import Network, TextEncoder, UNet, VaeDecoder, VaeEncoder

MODEL_OF_NETWORK = {  # in the order of a picture's way
    names.TEXT_ENCODER: "text_encoder",
    names.UNET: "unet",
    names.VAE_DECODER: "vae",
    names.VAE_ENCODER: "vae",
}


def network_from_checkpoint(name: str, checkpoint: Checkpoint) -> Network:
    """The network called `name`, one of `MODEL_OF_NETWORK`.

    CheckpointError where a weight is missing, or not of the shape that the configuration asks for.
    """
    match name:
        case names.TEXT_ENCODER:
            return TextEncoder(_text_encoder(checkpoint))
        case names.UNET:
            return UNet(_diffusers_model(UNet2DConditionModel, "unet", checkpoint))
        case names.VAE_DECODER:
            return VaeDecoder(_diffusers_model(AutoencoderKL, "vae", checkpoint))
        case names.VAE_ENCODER:
            return VaeEncoder(_diffusers_model(AutoencoderKL, "vae", checkpoint))
    raise ValueError(name)


def _text_encoder(checkpoint: Checkpoint) -> nn.Module:
    # The eager attention has its scale as a number in the graph; the fused one computes it there.
    return _read(CLIPTextModel, "text_encoder", checkpoint, attn_implementation="eager")


def _diffusers_model(kind: Any, model: str, checkpoint: Checkpoint) -> nn.Module:
    # diffusers complains where it is left to find out that accelerate is not installed
    return _read(kind, model, checkpoint, low_cpu_mem_usage=is_accelerate_available())


def _read(kind: Any, model: str, checkpoint: Checkpoint, **options: Any) -> nn.Module:
    try:
        module, report = kind.from_pretrained(
            checkpoint.folder,
            subfolder=model,
            variant=checkpoint.weights[model].variant,
            use_safetensors=True,
            local_files_only=True,
            output_loading_info=True,
            **options,
        )
    except (OSError, RuntimeError, ValueError, TypeError) as error:
        message = " ".join(str(error).split())
        raise CheckpointError(
            f"the {model} of '{checkpoint.source}' does not load: {message}"
        ) from error
    missing = sorted(report["missing_keys"])
    if missing:  # diffusers and transformers go on with random numbers
        raise CheckpointError(
            f"the {model} of '{checkpoint.source}' lacks {len(missing)} weights, the first is "
            f"{missing[0]}: save or download it again"
        )
    assert isinstance(module, nn.Module)
    return module
