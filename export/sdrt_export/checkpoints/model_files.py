"""Models in a safetensors file without configurations: their weights' names, and their sizes."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sdrt.adapters.found import (
    CheckpointFile,
    ControlNetFile,
    EncoderKeys,
    Found,
    TinyVaeFile,
    VaeFile,
)
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.adapters.uses import refusal_as
from sdrt.errors import FileError
from sdrt_export.architectures import TAESD, Config
from sdrt_export.checkpoints.derived_configs import Shapes, controlnet_config, vae_config
from sdrt_export.checkpoints.original.clip import clip_names, open_clip_names
from sdrt_export.checkpoints.original.names import Key, Names, Reading, names_after, same_names
from sdrt_export.checkpoints.original.taesd import taesd_decoder_names, taesd_encoder_names
from sdrt_export.checkpoints.original.unet import controlnet_names, unet_names
from sdrt_export.checkpoints.original.vae import vae_names
from sdrt_export.checkpoints.weights_files import Weights
from sdrt_export.errors import CheckpointError


@dataclass(frozen=True)
class ModelFile:
    """One model of a file."""

    config: Mapping[str, Any]
    weights: Weights


def recognised_file(path: Path) -> tuple[SafetensorsFile, Found]:
    """The file at `path`, and what it is. CheckpointError if it is damaged or nothing known."""
    try:
        file = SafetensorsFile.open(path)
        return file, recognised(file)
    except FileError as error:
        raise CheckpointError(str(error)) from error


def vae_in_file(path: Path, known: Config) -> ModelFile:
    """The VAE that a file is or contains.

    `known` is the configuration of one of its family: files lack the scaling factor.
    CheckpointError if there is no VAE.
    """
    file, found = recognised_file(path)
    vae = getattr(found, "vae", found)
    if not isinstance(vae, VaeFile):
        raise CheckpointError(refusal_as(path, found, "a VAE"))
    names = names_of_vae(file, vae)
    with lacks_of(file, "VAE"):
        return ModelFile(vae_config(known, shapes_of(file, names)), weights_of(file, names))


def tiny_vae_in_file(path: Path) -> ModelFile:
    """The tiny autoencoder in a file with both halves, or in TAESD's two files, of which this is
    one.

    CheckpointError for another kind of file, or only half of one.
    """
    _, found = first = _tiny_vae_in(path)
    halves = [first]
    if found.encoder is None or found.decoder is None:
        halves.append(_tiny_vae_in(_file_of_other_half(path, found)))
    names: dict[str, Key] = {}
    for file, half in halves:
        names |= _names_of_tiny_vae(file, half)
    files = tuple(str(file.path.absolute()) for file, _ in halves)
    config = {**TAESD, "latent_channels": found.latent_channels}
    return ModelFile(config, Weights(None, files, names=names))


def _tiny_vae_in(path: Path) -> tuple[SafetensorsFile, TinyVaeFile]:
    file, found = recognised_file(path)
    if not isinstance(found, TinyVaeFile):
        raise CheckpointError(refusal_as(path, found, "a tiny VAE"))
    return file, found


def _file_of_other_half(path: Path, found: TinyVaeFile) -> Path:
    """The file next to `path` that is called "encoder" where that is called "decoder"."""
    half, other = ("decoder", "encoder") if found.encoder is None else ("encoder", "decoder")
    sibling = path.with_name(path.name.replace(half, other))
    if sibling == path or not sibling.is_file():
        raise CheckpointError(
            f"'{path}' is {found.title}: put its {other} next to it, in a file such as "
            f"taesd_{other}.safetensors for taesd_{half}.safetensors, or give a diffusers folder "
            "or Hub id, such as 'madebyollin/taesd'"
        )
    return sibling


def _names_of_tiny_vae(file: SafetensorsFile, half: TinyVaeFile) -> dict[str, Key]:
    """The weights in that file: of both halves, or of one."""
    path = str(file.path.absolute())
    return {name: replace(key, file=path) for name, key in _keys_of_tiny_vae(file, half).items()}


def _keys_of_tiny_vae(file: SafetensorsFile, half: TinyVaeFile) -> Names:
    if half.layout == "diffusers":
        return same_names(file.tensors)
    names: dict[str, Key] = {}
    for prefix, read in ((half.encoder, taesd_encoder_names), (half.decoder, taesd_decoder_names)):
        if prefix is not None:
            names |= names_after(prefix, file.tensors, read)
    return names


def controlnet_in_file(path: Path, unet: Config) -> ModelFile:
    """The ControlNet in a file; `unet` is the configuration of the UNet that it controls.

    CheckpointError for another kind of file.
    """
    file, found = recognised_file(path)
    if not isinstance(found, ControlNetFile):
        raise CheckpointError(refusal_as(path, found, "a ControlNet"))
    read = controlnet_names if found.layout == "ldm" else same_names
    names = _all_names(file, found.prefix, read, "ControlNet")
    with lacks_of(file, "ControlNet"):
        return ModelFile(controlnet_config(unet, shapes_of(file, names)), weights_of(file, names))


def names_of_unet(file: SafetensorsFile, unet: CheckpointFile) -> Names:
    read = unet_names if unet.layout == "ldm" else same_names
    return _all_names(file, unet.prefix, read, "UNet")


def names_of_vae(file: SafetensorsFile, vae: VaeFile) -> Names:
    read = vae_names if vae.layout == "ldm" else same_names
    return _all_names(file, vae.prefix, read, "VAE")


def names_of_encoder(file: SafetensorsFile, encoder: EncoderKeys) -> Names:
    read = open_clip_names if encoder.layout == "open_clip" else clip_names
    return _all_names(file, encoder.prefix, read, "text encoder")


# Keys among those of a model that are not its weights: constants, and what only training needs.
_NOT_WEIGHTS = re.compile(
    r"(.*\.)?(position_ids|logit_scale|text_projection(\.weight)?|attn_mask)|"
    r"(loss|model_ema|visual)\..*"
)


def _all_names(file: SafetensorsFile, prefix: str, read: Reading, title: str) -> Names:
    """The weights of a model. CheckpointError if a key is not one that the model has."""
    names = names_after(prefix, file.tensors, read)
    used = {key.key for key in names.values()}
    for key in file.tensors:
        if not key.startswith(prefix) or key in used:
            continue
        if not _NOT_WEIGHTS.fullmatch(key.removeprefix(prefix)):
            raise CheckpointError(
                f"'{file.path}': its {title} has {key}, which no {title} that sdrt exports has: it "
                "is of another architecture"
            )
    return names


@contextmanager
def lacks_of(file: SafetensorsFile, title: str) -> Iterator[None]:
    """Completes errors about weights that a model of the file lacks."""
    try:
        yield
    except CheckpointError as error:
        raise CheckpointError(f"'{file.path}': its {title} {error}") from error


def shapes_of(file: SafetensorsFile, names: Names) -> Shapes:
    return {name: key.shape(file.tensors[key.key].shape) for name, key in names.items()}


def weights_of(file: SafetensorsFile, names: Names) -> Weights:
    return Weights(None, (str(file.path.absolute()),), names=names)
