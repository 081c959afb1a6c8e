"""Models of diffusers written back into the original (ldm, sgm) layout, as tests need them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import torch
from safetensors.torch import load_file, save_file

from support.original_names import open_clip_key, original_unet, prefixed, vae_keys

Weights: TypeAlias = dict[str, torch.Tensor]
Model: TypeAlias = Mapping[str, torch.Tensor]

UNET, VAE = "model.diffusion_model.", "first_stage_model."
# Of the text encoders, by the folders that diffusers' pipelines have.
SD1 = {"text_encoder": "cond_stage_model.transformer."}
SD2 = {"text_encoder": "cond_stage_model.model."}
XL = {
    "text_encoder": "conditioner.embedders.0.transformer.",
    "text_encoder_2": "conditioner.embedders.1.model.",
}
REFINER = {"text_encoder_2": "conditioner.embedders.0.model."}


def original_vae(model: Model) -> Weights:
    """A VAE in the original names, whose attention consists of 1×1 convolutions."""
    keys = vae_keys(model)
    return {
        keys[name]: weight[..., None, None] if "attentions" in name and weight.ndim == 2 else weight
        for name, weight in model.items()
    }


def original_clip(model: Model) -> Weights:
    """CLIP's text encoder as SD1 has it: in transformers' names, before version 5."""
    return {
        name if name.startswith("text_") else f"text_model.{name}": weight
        for name, weight in model.items()
    }


def original_open_clip(model: Model) -> Weights:
    """A text encoder in OpenCLIP's names."""
    weights: Weights = {}
    for name, weight in model.items():
        key = open_clip_key(name)
        if ".q_proj." in name:
            three = [model[name.replace("q_proj", f"{each}_proj")] for each in "qkv"]
            weights[key] = torch.cat(three)
        elif ".in_proj_" not in key:
            weights[key] = weight.T.contiguous() if key == "text_projection" else weight
    return weights


def original_checkpoint(models: Mapping[str, Model], encoders: Mapping[str, str]) -> Weights:
    """A checkpoint in one file, of the models in a pipeline's folders."""
    weights = prefixed(UNET, original_unet(models["unet"]))
    weights |= prefixed(VAE, original_vae(models["vae"]))
    for folder, prefix in encoders.items():
        write = original_clip if prefix.endswith("transformer.") else original_open_clip
        weights |= prefixed(prefix, write(models[folder]))
    return weights


def models_in(folder: Path) -> dict[str, Weights]:
    """The weights in a diffusers checkpoint, by its folders."""
    return {path.parent.name: load_file(path) for path in sorted(folder.glob("*/*.safetensors"))}


def save(weights: Weights, path: Path, **metadata: Any) -> Path:
    whole = {key: weight.contiguous() for key, weight in weights.items()}
    save_file(whole, path, metadata={"format": "pt", **metadata})
    return path
