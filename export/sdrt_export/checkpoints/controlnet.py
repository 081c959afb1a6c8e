"""A diffusers ControlNet on disk, found and compared with the UNet that it controls.

Nothing here imports torch, so bad input is reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.errors import SdrtError
from sdrt.tensor_names import controlnet as network_name
from sdrt_export.checkpoints.clip_vocabulary import write_json
from sdrt_export.checkpoints.controlnet_compatibility import Host, complaints_about_controlnet
from sdrt_export.checkpoints.hub import FilesWanted, folder_from_hub, is_hub_id
from sdrt_export.checkpoints.model_files import controlnet_in_file
from sdrt_export.checkpoints.parts import CONFIG_NAME, PartKind
from sdrt_export.checkpoints.small_files import TemporaryFolder
from sdrt_export.checkpoints.weights_files import (
    Weights,
    check_weights,
    file_names,
    find_weights,
    pickles_among,
    refusal_of_incomplete,
    refusal_of_pickles,
)
from sdrt_export.errors import CheckpointError, unreadable_as_checkpoint_error

Sources: TypeAlias = Mapping[str, str | PathLike[str]]  # name → folder, file or Hub id

PREFIX = network_name("")  # of the folders of ControlNets in checkpoints


@dataclass(frozen=True)
class ControlNetCheckpoint:
    """A checked ControlNet in diffusers' layout, and the name by which users ask for it."""

    name: str
    folder: Path
    source: str
    kind: PartKind
    weights: Weights
    temporary: TemporaryFolder | None = None  # `folder`, if it was written for a single file


def controlnets_from_sources(sources: Sources, host: Host) -> tuple[ControlNetCheckpoint, ...]:
    """The ControlNets at paths of folders and files, or Hub ids, downloaded if necessary.

    CheckpointError if one is missing, incomplete, pickled, not a ControlNet, or made for another
    UNet than that of `host`.
    """
    for name in sources:
        check_name(name)
    return tuple(_from_source(name, source, host) for name, source in sources.items())


def controlnets_in_checkpoint(folder: Path, host: Host) -> tuple[ControlNetCheckpoint, ...]:
    """The ControlNets in a checkpoint's folders `controlnet_<name>`. Errors as above."""
    folders = sorted(path.parent for path in folder.glob(f"{PREFIX}*/{CONFIG_NAME}"))
    return controlnets_from_sources(
        {path.name.removeprefix(PREFIX): path for path in folders}, host
    )


def check_name(name: str) -> None:
    """CheckpointError if `name` is not a ControlNet's name: it becomes part of a path."""
    if not re.fullmatch("[a-z0-9_-]{1,80}", name):
        raise CheckpointError(
            f"a ControlNet cannot be called '{name[:80]}': expected at most 80 lower-case letters, "
            "digits, '_' and '-', as in 'canny'"
        )


def weights_from_names(files: Collection[str], source: str, kind: PartKind) -> Weights:
    """The files that hold the weights. CheckpointError if they are missing or only pickled."""
    weights = find_weights(files, kind.weights)
    if weights is not None and not weights.missing(files):
        return weights
    pickles = pickles_among(files)
    if pickles:
        raise CheckpointError(refusal_of_pickles(source, pickles, kind.class_name))
    missing = weights.missing(files) if weights else [f"{kind.weights}.safetensors"]
    raise CheckpointError(refusal_of_incomplete(source, kind.title, missing, files))


@unreadable_as_checkpoint_error()
def _from_source(name: str, source: str | PathLike[str], host: Host) -> ControlNetCheckpoint:
    folder, text = Path(source), str(source)
    if folder.is_dir():
        return _from_folder(name, folder, text, host)
    if folder.is_file():
        return _from_file(name, folder, text, host)
    if is_hub_id(text):
        return _from_folder(name, *folder_from_hub(text, _files_wanted(text, host)), host)
    raise CheckpointError(
        f"no ControlNet at '{text}': expected a diffusers folder, a safetensors file, or a Hub id "
        "such as 'owner/name'"
    )


def _files_wanted(repo: str, host: Host) -> FilesWanted:
    """The files of a ControlNet on the Hub that an export reads."""
    kind = host.controlnet

    def weights(folder: Path, files: Collection[str]) -> tuple[str, ...]:
        _check_config(folder, repo, host)
        return weights_from_names(files, repo, kind).needed

    return FilesWanted(
        small_files=(kind.config,),
        check_names=lambda files: weights_from_names(files, repo, kind),
        weights=weights,
    )


def _from_folder(name: str, folder: Path, source: str, host: Host) -> ControlNetCheckpoint:
    _check_config(folder, source, host)
    kind = host.controlnet
    weights = weights_from_names(file_names(folder), source, kind)
    check_weights(folder, weights)
    return ControlNetCheckpoint(name, folder, source, kind, weights)


def _from_file(name: str, path: Path, source: str, host: Host) -> ControlNetCheckpoint:
    """Its configuration is in a temporary folder."""
    model = controlnet_in_file(path, host.unet.values)
    temporary = TemporaryFolder()
    write_json(temporary.path / host.controlnet.config, model.config)
    _check_config(temporary.path, source, host)
    return ControlNetCheckpoint(
        name, temporary.path, source, host.controlnet, model.weights, temporary
    )


def _check_config(folder: Path, source: str, host: Host) -> None:
    if (folder / MODEL_INDEX).exists():
        raise CheckpointError(
            f"'{source}' is a whole pipeline, expected the folder of a ControlNet: "
            f"name the one inside it, such as '{source}/controlnet'"
        )
    kind = host.controlnet
    if not (folder / kind.config).exists():
        missing = [kind.config]
        raise CheckpointError(
            refusal_of_incomplete(source, kind.title, missing, file_names(folder))
        )
    try:
        for complaint in complaints_about_controlnet(fields_from_file(folder / kind.config), host):
            raise CheckpointError(complaint)
    except SdrtError as error:
        raise CheckpointError(f"the ControlNet '{source}' cannot be exported: {error}") from error
