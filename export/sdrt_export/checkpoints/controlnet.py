"""A diffusers ControlNet on disk, found and held to the UNet that it is to control.

Nothing here imports torch, so bad input is told at once.
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
from sdrt_export.checkpoints.controlnet_compatibility import Host, complaints_about_controlnet
from sdrt_export.checkpoints.hub import Wanted, folder_from_hub, is_hub_id
from sdrt_export.checkpoints.weights_files import (
    DIFFUSERS_STEM,
    Weights,
    advice_on_file,
    check_head,
    file_names,
    find_weights,
    pickles_among,
    refusal_of_incomplete,
    refusal_of_pickles,
)
from sdrt_export.errors import CheckpointError

Sources: TypeAlias = Mapping[str, str | PathLike[str]]  # name → folder or Hub id

CONFIG = "config.json"
PREFIX = network_name("")


@dataclass(frozen=True)
class ControlNetCheckpoint:
    """A checked folder in diffusers' layout, and the name that its users are to give it."""

    name: str
    folder: Path
    source: str
    weights: Weights


def controlnets_from_sources(sources: Sources, host: Host) -> tuple[ControlNetCheckpoint, ...]:
    """The ControlNets that folders' paths or Hub ids mean, downloaded if need be.

    CheckpointError where one is missing, incomplete, pickled, not a ControlNet or made for another
    UNet than that of `host`.
    """
    for name in sources:
        check_name(name)
    return tuple(_from_source(name, source, host) for name, source in sources.items())


def controlnets_in_checkpoint(folder: Path, host: Host) -> tuple[ControlNetCheckpoint, ...]:
    """Those that a checkpoint brings, in folders called `controlnet_<name>`. Errors as above."""
    folders = sorted(path.parent for path in folder.glob(f"{PREFIX}*/{CONFIG}"))
    return controlnets_from_sources(
        {path.name.removeprefix(PREFIX): path for path in folders}, host
    )


def check_name(name: str) -> None:
    """CheckpointError where a ControlNet cannot be called `name`: it becomes part of a path."""
    if not re.fullmatch("[a-z0-9_-]+", name):
        raise CheckpointError(
            f"a ControlNet cannot be called '{name}': expected lower-case letters, digits, '_' "
            "and '-', as in 'canny'"
        )


def weights_from_names(files: Collection[str], source: str) -> Weights:
    """Which of the files hold the weights. CheckpointError where that is none, or a pickle."""
    weights = find_weights(files, DIFFUSERS_STEM)
    if weights is not None:
        return weights
    pickles = pickles_among(files)
    if pickles:
        raise CheckpointError(refusal_of_pickles(source, pickles, "ControlNetModel"))
    raise CheckpointError(
        refusal_of_incomplete(source, "ControlNet", [f"{DIFFUSERS_STEM}.safetensors"], files)
    )


def _from_source(name: str, source: str | PathLike[str], host: Host) -> ControlNetCheckpoint:
    folder, text = Path(source), str(source)
    if folder.is_dir():
        return _from_folder(name, folder, text, host)
    if folder.exists():
        raise CheckpointError(advice_on_file(folder, "ControlNetModel"))
    if is_hub_id(text):
        wanted = Wanted(
            small_files=(CONFIG,),
            weights_among=lambda files: weights_from_names(files, text).files,
            check=lambda folder: _check_config(folder, text, host),
        )
        return _from_folder(name, *folder_from_hub(text, wanted), host)
    raise CheckpointError(
        f"no ControlNet at '{text}': expected a diffusers folder, or a Hub id such as 'owner/name'"
    )


def _from_folder(name: str, folder: Path, source: str, host: Host) -> ControlNetCheckpoint:
    _check_config(folder, source, host)
    weights = weights_from_names(file_names(folder), source)
    for file in weights.files:
        check_head(folder / file)
    return ControlNetCheckpoint(name, folder, source, weights)


def _check_config(folder: Path, source: str, host: Host) -> None:
    if (folder / MODEL_INDEX).exists():
        raise CheckpointError(
            f"'{source}' is a whole pipeline, expected the folder of a ControlNet: "
            f"name the one inside it, such as '{source}/controlnet'"
        )
    if not (folder / CONFIG).exists():
        raise CheckpointError(
            refusal_of_incomplete(source, "ControlNet", [CONFIG], file_names(folder))
        )
    try:
        for complaint in complaints_about_controlnet(fields_from_file(folder / CONFIG), host):
            raise CheckpointError(complaint)
    except SdrtError as error:
        raise CheckpointError(f"the ControlNet '{source}' cannot be exported: {error}") from error
