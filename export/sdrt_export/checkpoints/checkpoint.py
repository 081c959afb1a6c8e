"""A diffusers checkpoint on disk, found and checked before any of its weights is read.

Nothing here imports torch, so bad input is told at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

from sdrt.bundle.optimum_folder import MODEL_INDEX
from sdrt.families.family import Family
from sdrt_export.checkpoints.compatibility import family_of_folder
from sdrt_export.checkpoints.controlnet import (
    PREFIX,
    ControlNetCheckpoint,
    controlnets_in_checkpoint,
)
from sdrt_export.checkpoints.controlnet_compatibility import host_of_folder
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

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parents[1] / "demo_checkpoint"

SCHEDULER_CONFIG = "scheduler/scheduler_config.json"
WEIGHTS_NAMES = {  # the models that a checkpoint must hold
    "text_encoder": "model",
    "unet": DIFFUSERS_STEM,
    "vae": DIFFUSERS_STEM,
}


@dataclass(frozen=True)
class Checkpoint:
    """A checked folder in diffusers' layout."""

    folder: Path
    source: str  # what the user called it, and the commit where it is from the Hub
    family: Family
    weights: Mapping[str, Weights]  # by the names of `WEIGHTS_NAMES`
    controlnets: tuple[ControlNetCheckpoint, ...]  # that it brings along


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
        raise CheckpointError(advice_on_file(folder, "StableDiffusionPipeline"))
    if is_hub_id(text):
        return checkpoint_from_folder(*folder_from_hub(text, _wanted(text)))
    raise CheckpointError(
        f"no checkpoint at '{text}': expected a diffusers folder, a Hub id such as 'owner/name', "
        f"or '{DEMO}'"
    )


def checkpoint_from_folder(folder: Path, source: str) -> Checkpoint:
    """The checkpoint in `folder`. Errors as in `checkpoint_from_source`."""
    weights = weights_from_names(file_names(folder), source)
    family = family_of_folder(folder, source)
    for model in weights.values():
        for name in model.files:
            check_head(folder / name)
    controlnets = controlnets_in_checkpoint(folder, host_of_folder(folder, source))
    return Checkpoint(folder, source, family, weights, controlnets)


def _wanted(repo: str) -> Wanted:
    """What an export reads of a checkpoint on the Hub."""
    models = (*WEIGHTS_NAMES, f"{PREFIX}*")
    return Wanted(
        small_files=(
            *(MODEL_INDEX, "tokenizer/*", "scheduler/*"),
            *(f"{model}/*.json" for model in models),
        ),
        weights_among=lambda files: [
            *(name for model in weights_from_names(files, repo).values() for name in model.files),
            *_weights_of_controlnets(files),
        ],
        check=lambda folder: family_of_folder(folder, repo),
    )


def _weights_of_controlnets(files: Collection[str]) -> list[str]:
    folders = {name.split("/")[0] for name in files if name.startswith(PREFIX)}
    found = (find_weights(files, f"{folder}/{DIFFUSERS_STEM}") for folder in sorted(folders))
    return [name for weights in found if weights for name in weights.files]


def weights_from_names(files: Collection[str], source: str) -> dict[str, Weights]:
    """Which files hold each model's weights, by the names of all files of a checkpoint.

    CheckpointError where a part is missing, telling what is there, or the weights are pickles.
    """
    found = {model: find_weights(files, f"{model}/{stem}") for model, stem in WEIGHTS_NAMES.items()}
    weights = {model: located for model, located in found.items() if located is not None}
    pickles = pickles_among(files)
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
        raise CheckpointError(refusal_of_pickles(source, pickles, "DiffusionPipeline"))
    raise CheckpointError(refusal_of_incomplete(source, "checkpoint", missing, files))


def _small_files(files: Collection[str]) -> list[str]:
    """What a checkpoint must hold beside weights."""
    tokenizer = ["tokenizer/vocab.json", "tokenizer/merges.txt"]
    return [
        MODEL_INDEX,
        *(f"{model}/config.json" for model in WEIGHTS_NAMES),
        SCHEDULER_CONFIG,
        *(["tokenizer/tokenizer.json"] if "tokenizer/tokenizer.json" in files else tokenizer),
    ]
