"""A diffusers ControlNet on disk, found and compared with the UNet that it controls.

Nothing here imports torch, so bad input is reported at once.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TypeAlias

from sdrt.files.json_fields import JsonFields
from sdrt.tensor_names import controlnet as network_name
from sdrt_export.checkpoints.controlnet_compatibility import Host, complaints_about_controlnet
from sdrt_export.checkpoints.model_files import ModelFile, controlnet_in_file
from sdrt_export.checkpoints.model_folder import ModelFolder, Source, model_from_source
from sdrt_export.checkpoints.parts import CONFIG_NAME
from sdrt_export.errors import CheckpointError

Sources: TypeAlias = Mapping[str, Source]  # by name
NO_CONTROLNETS: Sources = MappingProxyType({})

PREFIX = network_name("")  # of the folders of ControlNets in checkpoints


@dataclass(frozen=True)
class ControlNetCheckpoint(ModelFolder):
    """A checked ControlNet, and the name by which users ask for it."""

    name: str


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


def _from_source(name: str, source: Source, host: Host) -> ControlNetCheckpoint:
    def complaints(config: JsonFields) -> Iterator[str]:
        return complaints_about_controlnet(config, host)

    def in_file(path: Path) -> ModelFile:
        return controlnet_in_file(path, host.unet.values)

    model = model_from_source(source, host.controlnet, complaints, in_file)
    return ControlNetCheckpoint(**vars(model), name=name)
