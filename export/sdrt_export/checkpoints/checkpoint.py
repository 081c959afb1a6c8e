"""A diffusers checkpoint on disk, found and checked before any of its weights are read.

Nothing here imports torch, so bad input is reported at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from itertools import chain
from os import PathLike
from pathlib import Path

from sdrt.adapters.found import Prediction
from sdrt.bundle.manifest import Merged
from sdrt.bundle.optimum_folder import MODEL_INDEX, MODEL_NAME
from sdrt.families.family import Family
from sdrt.notes import Note
from sdrt_export.checkpoints.clip_vocabulary import clip_merges, vocabulary_file
from sdrt_export.checkpoints.compatibility import family_of_folder, kind_of_folder
from sdrt_export.checkpoints.controlnet import (
    PREFIX,
    ControlNetCheckpoint,
    controlnets_in_checkpoint,
)
from sdrt_export.checkpoints.controlnet_compatibility import host_of_folder
from sdrt_export.checkpoints.hub import FilesWanted, folder_from_hub, is_hub_id
from sdrt_export.checkpoints.loras import ScaledLora
from sdrt_export.checkpoints.model_folder import ModelFolder
from sdrt_export.checkpoints.new_tokens import NewTokens
from sdrt_export.checkpoints.parts import KINDS, SCHEDULER_CONFIG, CheckpointKind, PartKind
from sdrt_export.checkpoints.single_file import single_file
from sdrt_export.checkpoints.small_files import write_small_files
from sdrt_export.checkpoints.temporary_folder import TemporaryFolder
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

DEMO = "demo"
DEMO_FOLDER = Path(__file__).parents[1] / "demo_checkpoint"


@dataclass(frozen=True)
class Checkpoint:
    """A checked checkpoint in diffusers' layout; a single file's weights lie elsewhere."""

    folder: Path
    source: str  # as the user gave it, with the commit if it is from the Hub
    kind: CheckpointKind
    family: Family
    weights: Mapping[PartKind, Weights]
    controlnets: tuple[ControlNetCheckpoint, ...]  # in its folders
    vae: ModelFolder | None = None  # in place of its own
    notes: tuple[Note, ...] = ()  # on a single file
    # Those that embeddings add, by the folder of the text encoder.
    tokens: Mapping[str, NewTokens] = field(default_factory=dict)
    loras: tuple[ScaledLora, ...] = ()  # in the order in which they are merged
    merged: tuple[Merged, ...] = ()  # records of its LoRAs and embeddings


@unreadable_as_checkpoint_error()
def checkpoint_from_source(
    source: str | PathLike[str],
    *,
    prediction: Prediction | None = None,
    vae_elsewhere: bool = False,
) -> Checkpoint:
    """The checkpoint at a path or Hub id, or "demo"; downloaded if necessary.

    A path is that of a diffusers folder or a single file; the other parameters are for files, as in
    `single_file`. CheckpointError if it is missing, incomplete, pickled, or of a kind that sdrt
    does not export. File names, configurations and the headers of the weights files are checked.
    """
    folder = DEMO_FOLDER if source == DEMO else Path(source)
    text = str(source)
    if folder.is_file():
        return checkpoint_from_file(folder, text, prediction, vae_elsewhere=vae_elsewhere)
    if prediction is not None:
        raise CheckpointError(
            f"prediction_type: only a single file does not say what its UNet predicts; '{text}' "
            f"says so in {SCHEDULER_CONFIG}"
        )
    if folder.is_dir():
        return checkpoint_from_folder(folder, text)
    if source == DEMO:
        raise CheckpointError(
            "the demo's checkpoint is missing from this copy of sdrt: install the repository or "
            "the unpacked sdist with `pip install -e '.[export]'`, or train it with "
            "`python -m sdrt_export.demo.train WORK CHECKPOINT` and export CHECKPOINT"
        )
    if is_hub_id(text):
        return checkpoint_from_folder(*folder_from_hub(text, _files_wanted(text)))
    raise CheckpointError(
        f"no checkpoint at '{text}': expected a diffusers folder, a safetensors file, a Hub id "
        f"such as 'owner/name', or '{DEMO}'"
    )


def checkpoint_from_folder(folder: Path, source: str) -> Checkpoint:
    """The checkpoint in `folder`. Errors as in `checkpoint_from_source`."""
    files = file_names(folder)
    _check_names(files, source)
    kind = kind_of_folder(folder, source)
    weights = weights_from_names(files, source, kind)
    family = family_of_folder(folder, source, kind)
    for model in weights.values():
        check_weights(folder, model)
    controlnets = controlnets_in_checkpoint(folder, host_of_folder(folder, source))
    return Checkpoint(folder, source, kind, family, weights, controlnets)


def checkpoint_from_file(
    path: Path, source: str, prediction: Prediction | None = None, *, vae_elsewhere: bool = False
) -> Checkpoint:
    """The checkpoint in a single file. Its configurations and tokenizers are in a temporary folder.

    Errors as in `single_file`, and if CLIP's vocabulary is not installed.
    """
    contents = single_file(path, source, prediction, vae_elsewhere=vae_elsewhere)
    merges = clip_merges(vocabulary_file())
    temporary = TemporaryFolder()
    write_small_files(temporary.path, contents.architecture, merges)
    kind = kind_of_folder(temporary.path, source)
    return Checkpoint(
        folder=temporary.path,
        source=source,
        kind=kind,
        family=family_of_folder(temporary.path, source, kind),
        weights={part: weights.kept_with(temporary) for part, weights in contents.weights.items()},
        controlnets=(),
        notes=contents.notes,
    )


def _files_wanted(repo: str) -> FilesWanted:
    """The files of a checkpoint on the Hub that an export reads."""

    def weights(folder: Path, files: Collection[str]) -> list[str]:
        kind = kind_of_folder(folder, repo)
        found = [*weights_from_names(files, repo, kind).values(), *_controlnets_in(files, kind)]
        family_of_folder(folder, repo, kind)
        return [name for located in found for name in located.needed]

    small_files = {name: None for kind in KINDS for name in kind.small_files}
    return FilesWanted(
        small_files=(*small_files, f"{PREFIX}*/*.json"),
        check_names=lambda files: _check_names(files, repo),
        weights=weights,
    )


def _controlnets_in(files: Collection[str], kind: CheckpointKind) -> list[Weights]:
    """The weights of the ControlNets in a checkpoint, by the names of its files."""
    if kind.controlnet is None:
        return []
    folders = {name.split("/")[0] for name in files if name.startswith(PREFIX)}
    found = (find_weights(files, f"{folder}/{kind.controlnet.weights}") for folder in folders)
    return [weights for weights in found if weights is not None]


def _check_names(files: Collection[str], source: str) -> None:
    """CheckpointError if files of these names are not a checkpoint of any kind, with those missing.

    A pipeline without a denoiser that is known here is left to `kind_of_folder`, which names it.
    """
    kind = min(KINDS, key=lambda kind: len(_missing(files, kind)))
    reason = _refusal_of_names(files, source, kind)
    if reason is not None and not _may_be_another_family(files):
        raise CheckpointError(reason)


def _may_be_another_family(files: Collection[str]) -> bool:
    denoisers = tuple(f"{kind.part('denoiser').folder}/" for kind in KINDS)
    return MODEL_INDEX in files and not any(name.startswith(denoisers) for name in files)


def weights_from_names(
    files: Collection[str], source: str, kind: CheckpointKind
) -> dict[PartKind, Weights]:
    """The files that hold each part's weights, by the names of all files of a checkpoint.

    CheckpointError if a file is missing, with the names of those found, or weights are pickled.
    """
    if reason := _refusal_of_names(files, source, kind):
        raise CheckpointError(reason)
    return _weights_in(files, kind)


def _weights_in(files: Collection[str], kind: CheckpointKind) -> dict[PartKind, Weights]:
    found = {part: find_weights(files, part.weights) for part in kind.parts}
    return {part: located for part, located in found.items() if located is not None}


def _refusal_of_names(files: Collection[str], source: str, kind: CheckpointKind) -> str | None:
    """The reason why files of these names are not a checkpoint of this kind, or None."""
    missing = _missing(files, kind)
    if not missing:
        return None
    if f"{kind.part('denoiser').folder}/{MODEL_NAME}" in files:
        return f"'{source}' is exported already: `sdrt run {source} \"a prompt\"` generates images"
    pickles = pickles_among(files)
    if pickles and all(name.endswith(".safetensors") for name in missing):
        return refusal_of_pickles(source, pickles, "DiffusionPipeline")
    return refusal_of_incomplete(source, "checkpoint", missing, files)


def _missing(files: Collection[str], kind: CheckpointKind) -> list[str]:
    """The needed files that are not among `files`."""
    weights = _weights_in(files, kind)
    return [
        *(name for name in _small_files(files, kind) if name not in files),
        *(f"{part.weights}.safetensors" for part in kind.parts if part not in weights),
        *(name for located in weights.values() for name in located.missing(files)),
    ]


def _small_files(files: Collection[str], kind: CheckpointKind) -> list[str]:
    """The files that a checkpoint must contain in addition to weights."""
    configs = (part.config for part in kind.parts)
    tokenizers = (_tokenizer_files(files, folder) for folder in kind.tokenizers)
    return [MODEL_INDEX, *configs, SCHEDULER_CONFIG, *chain.from_iterable(tokenizers)]


def _tokenizer_files(files: Collection[str], folder: str) -> tuple[str, ...]:
    whole = f"{folder}/tokenizer.json"
    return (whole,) if whole in files else (f"{folder}/vocab.json", f"{folder}/merges.txt")
