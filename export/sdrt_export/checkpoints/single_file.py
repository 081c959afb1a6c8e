"""Checkpoints in one file: the weights of all models, without configurations and tokenizers."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdrt.adapters.found import CheckpointFile, Prediction, VaeFile
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.adapters.uses import refusal_as
from sdrt.notes import Note
from sdrt_export.architectures import Architecture, Config
from sdrt_export.checkpoints.derived_configs import (
    Shapes,
    text_encoder_config,
    unet_config,
    vae_config,
)
from sdrt_export.checkpoints.model_files import (
    lacks_of,
    names_of_encoder,
    names_of_unet,
    names_of_vae,
    recognised_file,
    shapes_of,
    weights_of,
)
from sdrt_export.checkpoints.original.clip import PROJECTION, first_layers
from sdrt_export.checkpoints.original.names import Names
from sdrt_export.checkpoints.parts import CheckpointKind, PartKind, Purpose, kind_of_family
from sdrt_export.checkpoints.published import predicted_by, published_model
from sdrt_export.checkpoints.weights_files import Weights
from sdrt_export.errors import CheckpointError


@dataclass(frozen=True)
class SingleFile:
    """A checkpoint in one file."""

    architecture: Architecture  # of the published model, with the sizes of these weights
    weights: Mapping[PartKind, Weights]
    notes: tuple[Note, ...]


def single_file(
    path: Path,
    source: str,
    prediction: Prediction | None = None,
    *,
    vae_elsewhere: bool = False,
) -> SingleFile:
    """The checkpoint in the file at `path`.

    `prediction` overrides what the file says that its UNet predicts. With `vae_elsewhere` the file
    may lack a VAE. CheckpointError if it lacks another model, or is something else.
    """
    file, found = recognised_file(path)
    if not isinstance(found, CheckpointFile):
        raise CheckpointError(refusal_as(path, found, "a checkpoint"))
    kind = kind_of_family(found.family)
    _require_models(found, kind, source, vae_elsewhere)
    predicted = predicted_by(file, found, prediction)
    published = published_model(found, predicted)
    names = dict(_names_of_models(file, found, kind, published))
    return SingleFile(
        _sized(published, file, names),
        {part: weights_of(file, names[part]) for part in names},
        (*predicted.notes, *_notes_on_keys(file, found)),
    )


def _require_models(
    found: CheckpointFile, kind: CheckpointKind, source: str, vae_elsewhere: bool
) -> None:
    encoders = kind.parts_for("text encoder")
    if len(found.text_encoders) != len(encoders):
        missing = " and ".join(part.title for part in encoders)
        raise CheckpointError(
            f"'{source}' is {found.title} without its {missing}, expected a checkpoint with "
            "all its models: export the checkpoint that it was taken from"
        )
    if _whole_vae(found) is None and not vae_elsewhere:
        raise CheckpointError(
            f"'{source}' is {found.title} without a VAE: give one with --vae, such as the file or "
            "the folder of the VAE that its author names"
        )


def _names_of_models(
    file: SafetensorsFile, found: CheckpointFile, kind: CheckpointKind, published: Architecture
) -> Iterator[tuple[PartKind, Names]]:
    encoders = kind.parts_for("text encoder")
    for part, keys in zip(encoders, found.text_encoders, strict=True):
        names = names_of_encoder(file, keys)
        if part.architecture is None:  # a model without the projection, which SD2's files contain
            names = {name: key for name, key in names.items() if name != PROJECTION}
        # The published encoder of SD2 lacks the last layer, whose states are not used.
        yield part, first_layers(names, getattr(published, part.folder)["num_hidden_layers"])
    yield kind.part("denoiser"), names_of_unet(file, found)
    if (vae := _whole_vae(found)) is not None:
        yield kind.part("vae"), names_of_vae(file, vae)


def _whole_vae(found: CheckpointFile) -> VaeFile | None:
    vae = found.vae
    return vae if vae is not None and vae.encoder and vae.decoder else None


_CONFIGS: Mapping[Purpose, Callable[[Config, Shapes], dict[str, Any]]] = {
    "text encoder": text_encoder_config,
    "denoiser": unet_config,
    "vae": vae_config,
}


def _sized(
    published: Architecture,
    file: SafetensorsFile,
    names: Mapping[PartKind, Names],
) -> Architecture:
    """The published architecture with the sizes of the file's weights."""
    sized: dict[str, Any] = {}
    for part in names:
        with lacks_of(file, part.title):
            config = _CONFIGS[part.purpose]
            sized[part.folder] = config(
                getattr(published, part.folder), shapes_of(file, names[part])
            )
    return replace(published, **sized)


# What training leaves in a file, and marks.
_NOT_MODELS = re.compile(
    r"model_ema\..*|denoiser\..*|posterior_.*|.*alphas_cumprod(_prev)?|betas|logvar|lvlb_weights|"
    r"scale_factor|global_step|epoch|v_pred|ztsnr"
)


def _notes_on_keys(file: SafetensorsFile, found: CheckpointFile) -> Iterator[Note]:
    """Notes on the tensors that belong to no model."""
    if found.ema:
        yield Note(
            code="ema_left_out",
            field="unet",
            message="unet: the file also has averaged (EMA) weights, which are left out",
        )
    prefixes = found.prefix, *(encoder.prefix for encoder in found.text_encoders)
    if found.vae is not None:
        prefixes = *prefixes, found.vae.prefix
    unknown = [key for key in file.tensors if not key.startswith(prefixes)]
    unknown = [key for key in unknown if not _NOT_MODELS.fullmatch(key)]
    if unknown:
        yield Note(
            code="tensors_left_out",
            field=None,
            message=f"{len(unknown)} tensors are left out, because they belong to no model that "
            f"sdrt exports, such as {unknown[0]}",
        )
