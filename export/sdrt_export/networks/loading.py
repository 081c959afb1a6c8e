"""Reads the models of a checkpoint with diffusers and transformers.

`MODELS` is the torch half of the tables in `checkpoints.parts`: a row for each of their rows.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    ConfigMixin,
    ControlNetModel,
    UNet2DConditionModel,
)
from torch import nn
from transformers import CLIPTextModel, CLIPTextModelWithProjection

from sdrt import tensor_names as names
from sdrt.adapters.lora_on_models import changes_of
from sdrt.bundle.optimum_folder import fields_from_file
from sdrt.families.family import LatentSpace
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.controlnet import ControlNetCheckpoint
from sdrt_export.checkpoints.loras import ScaledLora
from sdrt_export.checkpoints.model_folder import ModelFolder
from sdrt_export.checkpoints.new_tokens import NewTokens
from sdrt_export.checkpoints.parts import (
    CONFIG_NAME,
    CONTROLNET,
    CONTROLNET_XL,
    OTHER_VAE,
    REFINER_UNET,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    TINY_VAE,
    UNET,
    UNET_XL,
    VAE,
    PartKind,
)
from sdrt_export.checkpoints.text_encoders import options_of_encoder
from sdrt_export.checkpoints.weights_files import Weights
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.controlnet import ControlledUNet, ControlNet
from sdrt_export.networks.empty_model import empty_model
from sdrt_export.networks.extended_table import ExtendedTable
from sdrt_export.networks.merged_weights import MergedWeights, ScaledDeltas
from sdrt_export.networks.network import Network
from sdrt_export.networks.stored_weights import stored_weights
from sdrt_export.networks.text_encoder import ProjectedTextEncoder, TextEncoder
from sdrt_export.networks.unet import RefinerUNet, UNet
from sdrt_export.networks.vae import TinyVaeDecoder, TinyVaeEncoder, VaeDecoder, VaeEncoder

NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class ModelKind:
    """A part of a checkpoint as torch reads it, and the networks that it becomes."""

    model: Any  # a class of diffusers or transformers
    # One tuple for each folder of the bundle: the variants of one network, each with more inputs
    # than the one before it.
    networks: tuple[tuple[type[Network], ...], ...]
    derived: tuple[str, ...] = ()  # options that the class itself adds to its configuration

    def from_config(self, folder: Path, options: Mapping[str, Any] = NO_OPTIONS) -> nn.Module:
        """The model of the configuration in `folder` with these options of a text encoder, newly
        initialised."""
        if issubclass(self.model, ConfigMixin):  # of diffusers
            config = self.model.load_config(folder)
            known = {name: config[name] for name in config.keys() - set(self.derived)}
            model = self.model.from_config(known)
        else:
            # The eager attention has its scale as a number in the graph; the fused one computes it.
            config = self.model.config_class.from_pretrained(
                folder, attn_implementation="eager", **options
            )
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
    OTHER_VAE: ModelKind(AutoencoderKL, ((VaeDecoder,), (VaeEncoder,))),
    TINY_VAE: ModelKind(
        AutoencoderTiny, ((TinyVaeDecoder,), (TinyVaeEncoder,)), derived=("block_out_channels",)
    ),
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
    source: str | None = None  # if it is not the checkpoint's own
    latents: LatentSpace | None = None  # of a VAE with a scale of its own
    options: Mapping[str, Any] = field(default_factory=dict)  # in place of the configuration's
    tokens: NewTokens | None = None  # of embeddings
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

    def write_config(self, folder: Path) -> None:
        """Writes the configuration of the exported model into `folder`."""
        stored = fields_from_file(self.config).values
        config = {**stored, **self._options()}
        config.pop("_name_or_path", None)  # where the model lay on the machine that saved it
        if config == stored:
            shutil.copyfile(self.config, folder / CONFIG_NAME)
            return
        (folder / CONFIG_NAME).write_text(json.dumps(config, indent=2), encoding="utf-8")

    def weights(self) -> Mapping[str, torch.Tensor]:
        """The weights of the model, with its LoRAs and embeddings. CheckpointError as from
        `networks`."""
        files = [self.root / file for file in self.files.files]
        weights: Mapping[str, torch.Tensor]
        weights = stored_weights(self.title, files, self.shapes(), self.files.names)
        if self.loras:
            weights = MergedWeights(self.title, weights, self.loras)
        if self.tokens is not None:
            weights = ExtendedTable(weights, table_of(self._empty()), self.tokens)
        return weights

    def shapes(self) -> dict[str, torch.Size]:
        """The shapes of the stored weights. CheckpointError for a bad configuration."""
        model = self._model(self.options)
        return {name: weight.shape for name, weight in model.state_dict().items()}

    def _read(self) -> nn.Module:
        model = self._empty()
        values = {name: weight.float() for name, weight in self.weights().items()}
        model.load_state_dict(values, assign=True)
        return model

    def _empty(self) -> nn.Module:
        return self._model(self._options())

    def _model(self, options: Mapping[str, Any]) -> nn.Module:
        model, folder = MODELS[self.kind], self.config.parent
        with _failures_of_libraries(self.title):
            return empty_model(lambda: model.from_config(folder, options))

    def _options(self) -> dict[str, Any]:
        if self.tokens is None:
            return dict(self.options)
        before = fields_from_file(self.config).integer("vocab_size")
        return {**self.options, "vocab_size": self.tokens.num_rows(before)}


def parts_from_checkpoint(checkpoint: Checkpoint) -> list[Part]:
    """The parts of a checkpoint, followed by the ControlNets in it."""
    parts = [part for kind in checkpoint.kind.parts for part in _parts_of_kind(checkpoint, kind)]
    parts = parts_with_loras(parts, checkpoint.loras)
    return [*parts, *(part_from_controlnet(each) for each in checkpoint.controlnets)]


def _parts_of_kind(checkpoint: Checkpoint, kind: PartKind) -> list[Part]:
    if kind.purpose == "vae" and checkpoint.vae is not None:
        return parts_from_vae(checkpoint.vae)
    return [
        Part(
            name=variants[0].name,
            title=f"the {kind.folder} of '{checkpoint.source}'",
            kind=kind,
            root=checkpoint.folder,
            files=checkpoint.weights[kind],
            variants=variants,
            options=options_of_encoder(checkpoint, kind),
            tokens=checkpoint.tokens.get(kind.folder),
        )
        for variants in MODELS[kind].networks
    ]


def table_of(encoder: nn.Module) -> str:
    """The name of a text encoder's table of tokens."""
    table = encoder.get_input_embeddings().weight
    name: str = next(name for name, weight in encoder.named_parameters() if weight is table)
    return name


def parts_from_vae(vae: ModelFolder, latents: LatentSpace | None = None) -> list[Part]:
    """The two parts of a bundle that hold a VAE from elsewhere."""
    return [
        Part(
            name=variants[0].name,
            title=f"the {vae.kind.title} '{vae.source}'",
            kind=vae.kind,
            root=vae.folder,
            files=vae.weights,
            variants=variants,
            source=vae.source,
            latents=latents,
        )
        for variants in MODELS[vae.kind].networks
    ]


def parts_with_loras(parts: Sequence[Part], loras: Iterable[ScaledLora]) -> list[Part]:
    """The parts of a checkpoint, into which the LoRAs will be merged in their order.

    FileError if a LoRA does not fit them completely.
    """
    loras = tuple(loras)
    if not loras:
        return list(parts)
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


def part_from_controlnet(controlnet: ControlNetCheckpoint, *, added: bool = False) -> Part:
    """The part of a bundle that holds a ControlNet, which may be `added` to the checkpoint."""
    return Part(
        name=names.controlnet(controlnet.name),
        title=f"the ControlNet '{controlnet.source}'",
        kind=controlnet.kind,
        root=controlnet.folder,
        files=controlnet.weights,
        variants=(partial(ControlNet, name=controlnet.name),),
        source=controlnet.source if added else None,
    )


@contextmanager
def _failures_of_libraries(title: str) -> Iterator[None]:
    """Translates what a bad configuration or file raises, which can be anything."""
    try:
        yield
    except Exception as error:
        message = " ".join(str(error).split())
        raise CheckpointError(f"{title} does not load: {message}") from error
