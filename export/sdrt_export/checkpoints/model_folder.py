"""One model of diffusers in a folder or a file of its own, found and checked: a ControlNet, a VAE.

Nothing here imports torch, so bad input is reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.errors import SdrtError
from sdrt.files.json_fields import JsonFields
from sdrt_export.checkpoints.hub import FilesWanted, folder_from_hub, is_hub_id
from sdrt_export.checkpoints.model_files import ModelFile
from sdrt_export.checkpoints.parts import PartKind
from sdrt_export.checkpoints.small_files import write_config
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

Source: TypeAlias = str | PathLike[str]  # a folder, a file or a Hub id
# The reasons why a model of that configuration cannot be exported. SdrtError for a malformed field.
Complaints: TypeAlias = Callable[[JsonFields], Iterator[str]]
# The model in a file, which has no configuration. CheckpointError if it is another one.
InFile: TypeAlias = Callable[[Path], ModelFile]


@dataclass(frozen=True)
class ModelFolder:
    """A checked model in diffusers' layout, whose weights may lie elsewhere, in a single file."""

    folder: Path
    source: str  # as the user gave it, with the commit if it is from the Hub
    kind: PartKind
    weights: Weights

    @property
    def config(self) -> Path:
        """The configuration of the model."""
        return self.folder / self.kind.config


@unreadable_as_checkpoint_error()
def model_from_source(
    source: Source, kind: PartKind, complaints: Complaints, in_file: InFile
) -> ModelFolder:
    """The model at the path of a folder or file, or at a Hub id, downloaded if necessary.

    CheckpointError if it is missing, incomplete, pickled, not of that kind, or complained about.
    """
    folder, text = Path(source), str(source)
    if folder.is_dir():
        return _from_folder(folder, text, kind, complaints)
    if folder.is_file():
        return _from_file(in_file(folder), text, kind, complaints)
    if is_hub_id(text):
        wanted = _files_wanted(text, kind, complaints)
        return _from_folder(*folder_from_hub(text, wanted), kind, complaints)
    raise CheckpointError(
        f"no {kind.title} at '{text}': expected a diffusers folder, a safetensors file, or a "
        "Hub id such as 'owner/name'"
    )


def _from_folder(folder: Path, source: str, kind: PartKind, complaints: Complaints) -> ModelFolder:
    _check_config(folder, source, kind, complaints)
    weights = _weights_from_names(file_names(folder), source, kind)
    check_weights(folder, weights)
    return ModelFolder(folder, source, kind, weights)


def _from_file(
    model: ModelFile, source: str, kind: PartKind, complaints: Complaints
) -> ModelFolder:
    temporary = TemporaryFolder()
    write_config(temporary.path, kind, model.config)
    _check_config(temporary.path, source, kind, complaints)
    return ModelFolder(temporary.path, source, kind, model.weights.kept_with(temporary))


def _files_wanted(repo: str, kind: PartKind, complaints: Complaints) -> FilesWanted:
    """The files on the Hub that an export reads."""

    def weights(folder: Path, files: Collection[str]) -> tuple[str, ...]:
        _check_config(folder, repo, kind, complaints)
        return _weights_from_names(files, repo, kind).needed

    return FilesWanted(
        small_files=(kind.config,),
        check_names=lambda files: _weights_from_names(files, repo, kind),
        weights=weights,
    )


def _weights_from_names(files: Collection[str], source: str, kind: PartKind) -> Weights:
    """The files that hold the weights. CheckpointError if they are missing or only pickled."""
    weights = find_weights(files, kind.weights)
    if weights is not None and not weights.missing(files):
        return weights
    pickles = pickles_among(files)
    if pickles:
        raise CheckpointError(refusal_of_pickles(source, pickles, kind.class_name))
    missing = weights.missing(files) if weights else [f"{kind.weights}.safetensors"]
    raise CheckpointError(refusal_of_incomplete(source, kind.title, missing, files))


def _check_config(folder: Path, source: str, kind: PartKind, complaints: Complaints) -> None:
    if (folder / MODEL_INDEX).exists():
        raise CheckpointError(
            f"'{source}' is a whole pipeline, expected the folder of a {kind.title}: "
            f"name the one inside it, such as '{source}/{kind.purpose}'"
        )
    if not (folder / kind.config).exists():
        missing = [kind.config]
        raise CheckpointError(
            refusal_of_incomplete(source, kind.title, missing, file_names(folder))
        )
    try:
        for complaint in complaints(fields_from_file(folder / kind.config)):
            raise CheckpointError(complaint)
    except SdrtError as error:
        raise CheckpointError(f"the {kind.title} '{source}' cannot be exported: {error}") from error
