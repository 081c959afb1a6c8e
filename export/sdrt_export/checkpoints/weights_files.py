"""Finds the files that hold a model's weights, and checks that they are safe and complete."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from sdrt.adapters.other_formats import PICKLES
from sdrt.bundle.optimum_folder import fields_from_file
from sdrt.errors import SdrtError
from sdrt_export.checkpoints.original.names import Names
from sdrt_export.checkpoints.temporary_folder import TemporaryFolder
from sdrt_export.errors import CheckpointError

VARIANTS = (None, "fp16")  # the first that exists is read, as float32


@dataclass(frozen=True)
class Weights:
    """The safetensors files of one model; several if it is sharded.

    Paths are relative to the checkpoint's folder, or absolute: a single file lies elsewhere.
    """

    variant: str | None
    files: tuple[str, ...]
    index: str | None = None  # of shards: which of them holds which tensor
    # Of a single file: where each weight is, and the folder of its configurations.
    names: Names | None = None
    small_files: TemporaryFolder | None = None

    @property
    def needed(self) -> tuple[str, ...]:
        """All files that are read."""
        return self.files if self.index is None else (*self.files, self.index)

    def kept_with(self, folder: TemporaryFolder) -> Weights:
        """The same, which keeps the folder as long as it is used."""
        return replace(self, small_files=folder)

    def missing(self, files: Collection[str]) -> list[str]:
        """The needed files that are not among `files`."""
        return [name for name in self.needed if name not in files]


def find_weights(files: Collection[str], stem: str) -> Weights | None:
    """The weights called `stem` ("unet/diffusion_pytorch_model") among the files, or None.

    The first complete ones, else the first incomplete ones, with their `missing` files.
    """
    found = [weights for variant in VARIANTS for weights in _weights_of(files, stem, variant)]
    complete = [weights for weights in found if not weights.missing(files)]
    return next(iter([*complete, *found]), None)


def _weights_of(files: Collection[str], stem: str, variant: str | None) -> Iterator[Weights]:
    """The weights of one variant: in one file, or in shards under the names that libraries use.

    The variant comes before the shard's number, or, in older checkpoints, after it.
    """
    mark = f".{variant}" if variant else ""
    if f"{stem}{mark}.safetensors" in files:
        yield Weights(variant, (f"{stem}{mark}.safetensors",))
    indices = [f"{stem}.safetensors.index{mark}.json", f"{stem}.safetensors{mark}.index.json"]
    index = next((name for name in indices if name in files), indices[0])
    for before, after in dict.fromkeys([(mark, ""), ("", mark)]):
        for total in _totals(files, f"{stem}{before}", f"{after}.safetensors"):
            numbers = range(1, int(total) + 1)
            shards = (f"{stem}{before}-{i:05}-of-{total}{after}.safetensors" for i in numbers)
            yield Weights(variant, tuple(shards), index)


def _totals(files: Collection[str], begin: str, end: str) -> list[str]:
    """The numbers of shards in the names that begin and end like this."""
    shard = re.compile(rf"{re.escape(begin)}-\d{{5}}-of-(\d{{5}}){re.escape(end)}")
    return sorted({match[1] for match in map(shard.fullmatch, files) if match})


def check_weights(folder: Path, weights: Weights) -> None:
    """CheckpointError if a file is not safetensors, is truncated, or is not in the index.

    Only headers are read.
    """
    for name in weights.files:
        check_head(folder / name)
    if weights.index is None:
        return
    path = folder / weights.index
    try:
        named = set(map(str, fields_from_file(path).child("weight_map").values.values()))
    except SdrtError as error:
        raise CheckpointError(f"{error}: download or save the checkpoint again") from error
    expected = {PurePosixPath(name).name for name in weights.files}
    if named != expected:
        raise CheckpointError(
            f"{path} names {_some(named)}, expected {_some(expected)}: "
            "download or save the checkpoint again"
        )


def _some(names: Collection[str]) -> str:
    return ", ".join(sorted(names)[:4]) or "no files"


def file_names(folder: Path) -> set[str]:
    """All files in `folder`, relative to it, with slashes."""
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def check_head(path: Path) -> None:
    """CheckpointError if the file is not safetensors or is truncated; reads only its header."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: not a complete safetensors file ({error}): download or save it again"
        ) from error


def pickles_among(files: Collection[str]) -> list[str]:
    """The files that run code when they are loaded."""
    return sorted(name for name in files if name.endswith(PICKLES))


def refusal_of_pickles(source: str, pickles: list[str], kind: str) -> str:
    """The message for pickled weights; `kind` is the class of diffusers that reads the source."""
    return (
        f"'{source}' has pickled weights ({', '.join(pickles[:4])}), which run code when "
        "they are loaded, so sdrt refuses them. If you trust them, convert them: "
        f"{_conversion(kind, source)}, and export 'converted'"
    )


def refusal_of_incomplete(
    source: str, kind: str, missing: list[str], files: Collection[str]
) -> str:
    """The message for a source that is not a complete `kind`: its `files` lack `missing`."""
    there = sorted({name.split("/")[0] for name in files})
    return (
        f"'{source}' is not a complete {kind}: {', '.join(missing)} missing, "
        f"found {', '.join(there[:12]) or 'nothing'}: expected a folder that diffusers' "
        "save_pretrained wrote"
    )


def _conversion(kind: str, source: str) -> str:
    """The shell command that saves a model as a folder of safetensors, `converted`."""
    program = (
        f"from diffusers import {kind} as M; "
        f"M.from_pretrained({source!r}).save_pretrained('converted')"
    )
    plain = not set(program) & set('"$`\\!')
    return f'python -c "{program}"' if plain else f"python -c {shlex.quote(program)}"
