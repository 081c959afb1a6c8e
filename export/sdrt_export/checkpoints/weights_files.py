"""Finds the files that hold a model's weights, and checks that they are safe and complete."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from fnmatch import filter as matching
from pathlib import Path

from sdrt_export.errors import CheckpointError

VARIANTS = (None, "fp16")  # the first that exists is read, as float32
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class Weights:
    """The safetensors files of one model, relative to the checkpoint; several if it is sharded."""

    variant: str | None
    files: tuple[str, ...]


def find_weights(files: Collection[str], stem: str) -> Weights | None:
    """The weights called `stem` ("unet/diffusion_pytorch_model") among the files, or None."""
    for variant in VARIANTS:
        name = f"{stem}.{variant}" if variant else stem
        shards = sorted(matching(files, f"{name}-*-of-*.safetensors"))
        if f"{name}.safetensors" in files:
            return Weights(variant, (f"{name}.safetensors",))
        if shards:
            return Weights(variant, tuple(shards))
    return None


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
        "they are loaded, so sdrt refuses them. If you trust them, convert them: python -c "
        f'"from diffusers import {kind} as M; '
        f"M.from_pretrained('{source}').save_pretrained('converted')\", "
        "and export 'converted'"
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


def advice_on_file(file: Path, kind: str) -> str:
    """The message for a file instead of a folder; `kind` reads such files in diffusers."""
    reason = (
        "is a pickle, which runs code when it is loaded, so sdrt refuses it. If you trust it,"
        if file.suffix in PICKLES
        else "is a file, expected a diffusers folder. If it is a checkpoint,"
    )
    return (
        f"'{file}' {reason} convert it: python -c "
        f'"from diffusers import {kind} as M; '
        f"M.from_single_file('{file}').save_pretrained('converted')\", and export 'converted'"
    )
