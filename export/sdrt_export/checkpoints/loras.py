"""The LoRAs that an export merges, opened and checked before any model is read."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any, TypeAlias

from sdrt.adapters.hashes import hashes_of
from sdrt.adapters.lora import Lora
from sdrt.bundle.manifest import Merged
from sdrt.errors import quoted
from sdrt_export.errors import CheckpointError

Source: TypeAlias = str | PathLike[str]
Loras: TypeAlias = Mapping[Source, float] | Sequence[Source | tuple[Source, float]]


@dataclass(frozen=True)
class ScaledLora:
    """A LoRA file that is merged with this strength."""

    lora: Lora
    scale: float
    record: Merged


def loras_from_sources(sources: Loras) -> tuple[ScaledLora, ...]:
    """The LoRAs in the order in which they are merged; a scale that is not given is 1.

    FileError if one is not a LoRA, is broken, or of a kind that cannot be merged; CheckpointError
    for a path without a file, and for a scale that is not a number.
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
    path = _file_of(Path(source))
    lora = Lora.open(path)
    lora.check_values()
    hashes = hashes_of(lora.file)
    record = Merged("lora", path.stem, hashes.sha256, hashes.autov3, float(scale))
    return ScaledLora(lora, float(scale), record)


def _file_of(path: Path) -> Path:
    """The file itself, or the only safetensors file of a folder."""
    if not path.exists():
        raise CheckpointError(
            f"no LoRA at '{path}': expected PATH or PATH:SCALE, as in style.safetensors:0.8"
        )
    if not path.is_dir():
        return path
    files = sorted(path.glob("*.safetensors"))
    if len(files) == 1:
        return files[0]
    found = ", ".join(quoted(file.name) for file in files[:4]) or "no safetensors file"
    raise CheckpointError(f"'{path}' is a folder with {found}: name one file as the LoRA")
