"""Reads the models of a checkpoint with diffusers and transformers.

`MODELS` is the torch half of the tables in `checkpoints.parts`: a row for each of their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from diffusers.utils import is_accelerate_available
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection
from transformers.utils import logging

from sdrt import tensor_names as names
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.controlnet import ControlNetCheckpoint
from sdrt_export.checkpoints.parts import (
    CONTROLNET,
    CONTROLNET_XL,
    REFINER_UNET,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    UNET,
    UNET_XL,
    VAE,
    PartKind,
)
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.controlnet import ControlledUNet, ControlNet
from sdrt_export.networks.network import Network
from sdrt_export.networks.text_encoder import ProjectedTextEncoder, TextEncoder
from sdrt_export.networks.unet import RefinerUNet, UNet
from sdrt_export.networks.vae import VaeDecoder, VaeEncoder

# diffusers warns if it must find out itself that accelerate is not installed.
_DIFFUSERS = {"low_cpu_mem_usage": is_accelerate_available()}


@dataclass(frozen=True)
class ModelKind:
    """A part of a checkpoint as torch reads it, and the networks that it becomes."""

    read_with: Any  # a class with `from_pretrained`
    options: Mapping[str, Any]  # of `from_pretrained`
    # One tuple for each folder of the bundle: the variants of one network, each with more inputs
    # than the one before it.
    networks: tuple[tuple[type[Network], ...], ...]


# The eager attention has its scale as a number in the graph; the fused one computes it.
_TRANSFORMERS = {"attn_implementation": "eager"}

MODELS: Mapping[PartKind, ModelKind] = {
    TEXT_ENCODER: ModelKind(CLIPTextModel, _TRANSFORMERS, ((TextEncoder,),)),
    TEXT_ENCODER_2: ModelKind(
        CLIPTextModelWithProjection, _TRANSFORMERS, ((ProjectedTextEncoder,),)
    ),
    UNET: ModelKind(UNet2DConditionModel, _DIFFUSERS, ((UNet, ControlledUNet),)),
    UNET_XL: ModelKind(UNet2DConditionModel, _DIFFUSERS, ((UNet, ControlledUNet),)),
    REFINER_UNET: ModelKind(UNet2DConditionModel, _DIFFUSERS, ((RefinerUNet,),)),
    VAE: ModelKind(AutoencoderKL, _DIFFUSERS, ((VaeDecoder,), (VaeEncoder,))),
    CONTROLNET: ModelKind(ControlNetModel, _DIFFUSERS, ()),  # `ControlNet` also takes a name
    CONTROLNET_XL: ModelKind(ControlNetModel, _DIFFUSERS, ()),
}


@dataclass(frozen=True)
class Part:
    """The contents of one folder of a bundle: a model, as one network or as variants of one.

    `networks` reads the model; each call reads it again.
    """

    name: str
    config: Path
    networks: Callable[[], list[Network]]


def parts_from_checkpoint(checkpoint: Checkpoint) -> list[Part]:
    """The parts of a checkpoint, followed by the ControlNets in it."""
    parts = [
        _part_from_checkpoint(kind, variants, checkpoint)
        for kind in checkpoint.kind.parts
        for variants in MODELS[kind].networks
    ]
    return [*parts, *map(part_from_controlnet, checkpoint.controlnets)]


def _part_from_checkpoint(
    kind: PartKind, variants: tuple[type[Network], ...], checkpoint: Checkpoint
) -> Part:
    """The part of a bundle that holds these networks of a checkpoint's part.

    Its `networks` raises CheckpointError if a weight is missing, or its shape differs from the
    configuration.
    """

    def networks() -> list[Network]:
        folder, variant = checkpoint.folder / kind.folder, checkpoint.weights[kind].variant
        model = _read(kind, folder, variant, f"the {kind.folder} of '{checkpoint.source}'")
        return [network(model) for network in variants]

    return Part(variants[0].name, checkpoint.folder / kind.config, networks)


def part_from_controlnet(controlnet: ControlNetCheckpoint) -> Part:
    """The part of a bundle that holds a ControlNet. CheckpointError as above."""

    def networks() -> list[Network]:
        title = f"the ControlNet '{controlnet.source}'"
        model = _read(controlnet.kind, controlnet.folder, controlnet.weights.variant, title)
        return [ControlNet(model, controlnet.name)]

    config = controlnet.folder / controlnet.kind.config
    return Part(names.controlnet(controlnet.name), config, networks)


def _read(kind: PartKind, folder: Path, variant: str | None, title: str) -> nn.Module:
    """The model in `folder`; `title` names it in errors."""
    model = MODELS[kind]
    try:
        with _no_progress_bar():
            module, report = model.read_with.from_pretrained(
                folder,
                variant=variant,
                use_safetensors=True,
                local_files_only=True,
                output_loading_info=True,
                **model.options,
            )
    except Exception as error:  # a bad configuration can raise anything
        message = " ".join(str(error).split())
        raise CheckpointError(f"{title} does not load: {message}") from error
    missing = sorted(report["missing_keys"])
    if missing:  # diffusers and transformers continue with random weights
        raise CheckpointError(
            f"{title} lacks {len(missing)} weights, the first is {missing[0]}: "
            "save or download it again"
        )
    assert isinstance(module, nn.Module)
    return module


@contextmanager
def _no_progress_bar() -> Iterator[None]:
    """Keeps transformers 5 from showing a bar for each model, also where stderr is a file."""
    was_enabled = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if was_enabled:
            logging.enable_progress_bar()
