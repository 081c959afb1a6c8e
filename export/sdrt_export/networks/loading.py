"""Reads the models of a checkpoint with diffusers and transformers.

`MODELS` is the torch half of the tables in `checkpoints.parts`: a row for each of their rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, ConfigMixin, ControlNetModel, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from sdrt import tensor_names as names
from sdrt.adapters.lora_on_models import changes_of
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.controlnet import ControlNetCheckpoint
from sdrt_export.checkpoints.loras import ScaledLora
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
from sdrt_export.checkpoints.weights_files import Weights
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.controlnet import ControlledUNet, ControlNet
from sdrt_export.networks.empty_model import empty_model
from sdrt_export.networks.merged_weights import MergedWeights, ScaledDeltas
from sdrt_export.networks.network import Network
from sdrt_export.networks.stored_weights import stored_weights
from sdrt_export.networks.text_encoder import ProjectedTextEncoder, TextEncoder
from sdrt_export.networks.unet import RefinerUNet, UNet
from sdrt_export.networks.vae import VaeDecoder, VaeEncoder


@dataclass(frozen=True)
class ModelKind:
    """A part of a checkpoint as torch reads it, and the networks that it becomes."""

    model: Any  # a class of diffusers or transformers
    # One tuple for each folder of the bundle: the variants of one network, each with more inputs
    # than the one before it.
    networks: tuple[tuple[type[Network], ...], ...]

    def from_config(self, folder: Path) -> nn.Module:
        """The model of the configuration in `folder`, newly initialised."""
        if issubclass(self.model, ConfigMixin):  # of diffusers
            model = self.model.from_config(self.model.load_config(folder))
        else:
            # The eager attention has its scale as a number in the graph; the fused one computes it.
            config = self.model.config_class.from_pretrained(folder, attn_implementation="eager")
            model = self.model(config)
        assert isinstance(model, nn.Module)
        return model


MODELS: Mapping[PartKind, ModelKind] = {
    TEXT_ENCODER: ModelKind(CLIPTextModel, ((TextEncoder,),)),
    TEXT_ENCODER_2: ModelKind(CLIPTextModelWithProjection, ((ProjectedTextEncoder,),)),
    UNET: ModelKind(UNet2DConditionModel, ((UNet, ControlledUNet),)),
    UNET_XL: ModelKind(UNet2DConditionModel, ((UNet, ControlledUNet),)),
    REFINER_UNET: ModelKind(UNet2DConditionModel, ((RefinerUNet,),)),
    VAE: ModelKind(AutoencoderKL, ((VaeDecoder,), (VaeEncoder,))),
    CONTROLNET: ModelKind(ControlNetModel, ()),  # `ControlNet` also takes a name
    CONTROLNET_XL: ModelKind(ControlNetModel, ()),
}


@dataclass(frozen=True)
class Part:
    """The contents of one folder of a bundle: a model, as one network or as variants of one."""

    name: str
    title: str  # in errors
    kind: PartKind
    root: Path  # of the checkpoint
    files: Weights
    variants: tuple[Callable[[nn.Module], Network], ...]
    loras: ScaledDeltas = ()

    @property
    def config(self) -> Path:
        """The configuration of the model."""
        return self.root / self.kind.config

    def networks(self) -> list[Network]:
        """The networks, for running. Each call reads the model.

        CheckpointError if a weight is missing, or its shape differs from the configuration.
        """
        model = self._read()
        return [variant(model) for variant in self.variants]

    def empty_networks(self) -> list[Network]:
        """The networks without weights, for tracing. CheckpointError for a bad configuration."""
        model = self._empty()
        return [variant(model) for variant in self.variants]

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The weights of the model, with its LoRAs. CheckpointError as from `networks`."""
        files = [self.root / file for file in self.files.files]
        stored = stored_weights(self.title, files, self.shapes())
        return MergedWeights(self.title, stored, self.loras) if self.loras else stored

    def shapes(self) -> dict[str, torch.Size]:
        """The shapes of the weights. CheckpointError for a bad configuration."""
        return {name: weight.shape for name, weight in self._empty().state_dict().items()}

    def _read(self) -> nn.Module:
        model = self._empty()
        values = {name: weight.float() for name, weight in self.weights().items()}
        model.load_state_dict(values, assign=True)
        return model

    def _empty(self) -> nn.Module:
        model, folder = MODELS[self.kind], self.config.parent
        with _failures_of_libraries(self.title):
            return empty_model(lambda: model.from_config(folder))


def parts_from_checkpoint(checkpoint: Checkpoint) -> list[Part]:
    """The parts of a checkpoint, followed by the ControlNets in it."""
    parts = [
        Part(
            name=variants[0].name,
            title=f"the {kind.folder} of '{checkpoint.source}'",
            kind=kind,
            root=checkpoint.folder,
            files=checkpoint.weights[kind],
            variants=variants,
        )
        for kind in checkpoint.kind.parts
        for variants in MODELS[kind].networks
    ]
    return [*parts, *map(part_from_controlnet, checkpoint.controlnets)]


def parts_with_loras(parts: Sequence[Part], loras: Iterable[ScaledLora]) -> list[Part]:
    """The parts of a checkpoint, into which the LoRAs will be merged in their order.

    FileError if a LoRA does not fit them completely.
    """
    models = {
        part.kind.folder: {name: tuple(shape) for name, shape in part.shapes().items()}
        for part in parts
        if part.kind.purpose in ("denoiser", "text encoder")
    }
    merged: dict[str, ScaledDeltas] = {}
    for each in loras:
        for folder, deltas in changes_of(each.lora, models).items():
            if each.scale != 0:
                merged[folder] = (*merged.get(folder, ()), (deltas, each.scale))
    return [replace(part, loras=merged.get(part.kind.folder, ())) for part in parts]


def part_from_controlnet(controlnet: ControlNetCheckpoint) -> Part:
    """The part of a bundle that holds a ControlNet."""
    return Part(
        name=names.controlnet(controlnet.name),
        title=f"the ControlNet '{controlnet.source}'",
        kind=controlnet.kind,
        root=controlnet.folder,
        files=controlnet.weights,
        variants=(partial(ControlNet, name=controlnet.name),),
    )


@contextmanager
def _failures_of_libraries(title: str) -> Iterator[None]:
    """Translates what a bad configuration or file raises, which can be anything."""
    try:
        yield
    except Exception as error:
        message = " ".join(str(error).split())
        raise CheckpointError(f"{title} does not load: {message}") from error
