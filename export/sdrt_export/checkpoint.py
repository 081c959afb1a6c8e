"""A diffusers checkpoint on disk, found and checked before any of its weights is read.

Nothing here imports torch, so bad input is told at once.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from fnmatch import filter as matching
from os import PathLike
from pathlib import Path

from sdrt.onnx_folder import MODEL_INDEX
from sdrt_export.compatibility import family_of_folder
from sdrt_export.errors import CheckpointError

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parent / "demo_checkpoint"

SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
WEIGHTS_NAMES = {  # the models that a checkpoint must hold
    "text_encoder": "model",
    "unet": "diffusion_pytorch_model",
    "vae": "diffusion_pytorch_model",
}
VARIANTS = (None, "fp16")  # the first that is there is read, as float32
PICKLES = (".bin", ".ckpt", ".pt", ".pth", ".pkl")


@dataclass(frozen=True)
class Weights:
    """The safetensors files of one model, relative to the checkpoint; several of a sharded one."""

    variant: str | None
    files: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checked folder in diffusers' layout."""

    folder: Path
    source: str  # what the user called it, and the commit where it is from the Hub
    family: str  # "stable-diffusion-1" or "-2"
    weights: Mapping[str, Weights]  # by the names of `WEIGHTS_NAMES`


def checkpoint_from_source(source: str | PathLike[str]) -> Checkpoint:
    """The checkpoint that a folder's path, a Hub id or "demo" means, downloaded if need be.

    CheckpointError where it is missing, incomplete, pickled, or of a kind that sdrt does not
    export; by then names, configurations and the heads of the weights files have been read.
    """
    folder = DEMO_FOLDER if source == DEMO else Path(source)
    text = str(source)
    if folder.is_dir():
        return checkpoint_from_folder(folder, text)
    if source == DEMO:
        raise CheckpointError(
            "the demo's checkpoint is not in this copy of sdrt: take the repository's, or train "
            "it with `python -m sdrt_export.demo.train`"
        )
    if folder.exists():
        raise CheckpointError(_advice_on_file(folder))
    if re.fullmatch(r"\w[\w.-]*/[\w.-]+", text):
        from sdrt_export.hub import folder_from_hub  # imports the Hub's library

        folder = folder_from_hub(text)
        commit = folder.name  # what the Hub's cache calls a snapshot
        return replace(checkpoint_from_folder(folder, text), source=f"{text}@{commit}")
    raise CheckpointError(
        f"no checkpoint at '{text}': expected a diffusers folder, a Hub id such as 'owner/name', "
        f"or '{DEMO}'"
    )


def checkpoint_from_folder(folder: Path, source: str) -> Checkpoint:
    """The checkpoint in `folder`. Errors as in `checkpoint_from_source`."""
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    weights = weights_from_names(files, source)
    family = family_of_folder(folder, source)
    for model in weights.values():
        for name in model.files:
            _check_head(folder / name)
    return Checkpoint(folder, source, family, weights)


def weights_from_names(files: Collection[str], source: str) -> dict[str, Weights]:
    """Which files hold each model's weights, by the names of all files of a checkpoint.

    CheckpointError where a part is missing, telling what is there, or the weights are pickles.
    """
    found = {model: _find_weights(files, model) for model in WEIGHTS_NAMES}
    weights = {model: located for model, located in found.items() if located is not None}
    pickles = sorted(name for name in files if name.endswith(PICKLES))
    missing = [
        *(name for name in _small_files(files) if name not in files),
        *(
            f"{model}/{WEIGHTS_NAMES[model]}.safetensors"
            for model in WEIGHTS_NAMES
            if model not in weights
        ),
    ]
    if not missing:
        return weights
    if "unet/model.onnx" in files:
        raise CheckpointError(
            f"'{source}' is exported already: `sdrt run {source} \"a prompt\"` draws with it"
        )
    if pickles and all(name.endswith(".safetensors") for name in missing):
        raise CheckpointError(_refusal_of_pickles(source, pickles))
    there = sorted({name.split("/")[0] for name in files})
    raise CheckpointError(
        f"'{source}' is no whole checkpoint: {', '.join(missing)} missing, "
        f"found {', '.join(there[:12]) or 'nothing'}: expected a folder that diffusers' "
        "save_pretrained wrote"
    )


def _small_files(files: Collection[str]) -> list[str]:
    """What a checkpoint must hold beside weights."""
    tokenizer = ["tokenizer/vocab.json", "tokenizer/merges.txt"]
    return [
        MODEL_INDEX,
        *(f"{model}/config.json" for model in WEIGHTS_NAMES),
        SCHEDULER_CONFIG,
        *(["tokenizer/tokenizer.json"] if "tokenizer/tokenizer.json" in files else tokenizer),
    ]


def _find_weights(files: Collection[str], model: str) -> Weights | None:
    for variant in VARIANTS:
        stem = f"{model}/{WEIGHTS_NAMES[model]}" + (f".{variant}" if variant else "")
        shards = sorted(matching(files, f"{stem}-*-of-*.safetensors"))
        if f"{stem}.safetensors" in files:
            return Weights(variant, (f"{stem}.safetensors",))
        if shards:
            return Weights(variant, tuple(shards))
    return None


def _check_head(path: Path) -> None:
    """Whether the file is safetensors and all there; reads only its head."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np"):
            pass
    except (SafetensorError, OSError) as error:
        raise CheckpointError(
            f"{path}: no whole safetensors file ({error}): download or save it again"
        ) from error


def _refusal_of_pickles(source: str, pickles: list[str]) -> str:
    return (
        f"'{source}' holds its weights as pickles ({', '.join(pickles[:4])}), which run code when "
        "they are read, so sdrt refuses them. If you trust them, convert them: python -c "
        '"from diffusers import DiffusionPipeline as P; '
        f"P.from_pretrained('{source}', use_safetensors=False).save_pretrained('converted')\", "
        "and export 'converted'"
    )


def _advice_on_file(file: Path) -> str:
    reason = (
        "is a pickle, which runs code when it is read, so sdrt refuses it. If you trust it,"
        if file.suffix in PICKLES
        else "is a file, expected a diffusers folder. If it is a checkpoint,"
    )
    return (
        f"'{file}' {reason} convert it: python -c "
        '"from diffusers import StableDiffusionPipeline as P; '
        f"P.from_single_file('{file}').save_pretrained('converted')\", and export 'converted'"
    )
