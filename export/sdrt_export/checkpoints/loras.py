"""The LoRAs that an export merges, found, opened and checked before any model is read."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from sdrt.adapters.hashes import hashes_of
from sdrt.adapters.lora import Lora, listed
from sdrt.adapters.other_formats import PICKLES
from sdrt.adapters.peft_config import CONFIG_NAME
from sdrt.bundle.manifest import Merged
from sdrt_export.checkpoints.hub import FilesWanted, folder_from_hub, is_hub_id
from sdrt_export.errors import CheckpointError

Source: TypeAlias = str | PathLike[str]
Loras: TypeAlias = Mapping[Source, float] | Sequence[Source | tuple[Source, float]]

_SUFFIX = ".safetensors"
_USUAL = ("pytorch_lora_weights.safetensors", "adapter_model.safetensors")  # diffusers' and peft's


@dataclass(frozen=True)
class ScaledLora:
    """A LoRA file that is merged with this strength."""

    lora: Lora
    scale: float
    record: Merged


def loras_from_sources(sources: Loras) -> tuple[ScaledLora, ...]:
    """The LoRAs in the order in which they are merged; a scale that is not given is 1.

    A source is a file, a folder with one, or a Hub id. FileError if a file is not a LoRA, is broken
    or of a kind that cannot be merged; CheckpointError if there is no file, and for a scale that is
    not a number.
    """
    return tuple(_scaled(source, scale) for source, scale in _pairs(sources))


def _pairs(sources: Loras) -> Iterable[tuple[Source, Any]]:
    if isinstance(sources, Mapping):
        return sources.items()
    return [each if isinstance(each, tuple) else (each, 1.0) for each in sources]


def _scaled(source: Source, scale: Any) -> ScaledLora:
    is_number = isinstance(scale, int | float) and not isinstance(scale, bool)
    if not is_number or not math.isfinite(scale):
        raise CheckpointError(f"LoRA '{source}': got the scale {scale!r}, expected a number")
    path, name = _file_and_name(source)
    lora = Lora.open(path)
    lora.check_values()
    hashes = hashes_of(lora.file)
    record = Merged("lora", name, hashes.sha256, hashes.autov3, float(scale))
    return ScaledLora(lora, float(scale), record)


def _file_and_name(source: Source) -> tuple[Path, str]:
    """The file, and what its users call it."""
    path, text = Path(source), str(source)
    if path.is_dir():
        names = [file.name for file in path.iterdir()]
        return path / _only_lora(names, text), path.resolve().name
    if path.exists():
        return path, path.stem
    if is_hub_id(text) and path.suffix not in (_SUFFIX, *PICKLES):
        folder, _ = folder_from_hub(text, _files_wanted(text))
        return folder / _only_lora([file.name for file in folder.iterdir()], text), path.name
    raise CheckpointError(
        f"no LoRA at '{text}': expected a safetensors file or a Hub id, and after a colon the "
        f"scale, as in style.safetensors:0.8"
    )


def _files_wanted(repo: str) -> FilesWanted:
    return FilesWanted(
        small_files=(CONFIG_NAME,),
        check_names=lambda names: _only_lora(names, repo),
        weights=lambda _, names: [_only_lora(names, repo)],
    )


def _only_lora(names: Collection[str], source: str) -> str:
    """The file of a folder or repository that is meant: its only one, or one with a usual name."""
    found = sorted(name for name in names if name.endswith(_SUFFIX) and "/" not in name)
    usual = [name for name in _USUAL if name in found]
    if len(found) == 1 or usual:
        return (usual or found)[0]
    held = listed(found) if found else "no safetensors file"
    raise CheckpointError(f"'{source}' has {held}: name the file of the LoRA")
