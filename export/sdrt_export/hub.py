"""Checkpoints from the Hugging Face Hub: only the files that an export reads are downloaded."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from huggingface_hub import HfApi, snapshot_download
from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    RepositoryNotFoundError,
)

from sdrt.onnx_folder import MODEL_INDEX
from sdrt_export.checkpoint import WEIGHTS_NAMES, weights_from_names
from sdrt_export.compatibility import family_of_folder
from sdrt_export.errors import CheckpointError

SMALL_FILES = (
    MODEL_INDEX,
    *("tokenizer/*", "scheduler/*"),
    *(f"{model}/*.json" for model in WEIGHTS_NAMES),
)


def folder_from_hub(repo: str) -> Path:
    """The local folder with the checkpoint `repo` ("owner/name"), from the cache where it is there.

    Small files come first and are checked, so that a checkpoint that sdrt cannot export costs no
    gigabytes. CheckpointError for that, and where the Hub does not give it.
    """
    try:
        weights = weights_from_names(_names_in(repo), repo)
        family_of_folder(_downloaded(repo, SMALL_FILES), repo)
        names = (name for model in weights.values() for name in model.files)
        return _downloaded(repo, (*SMALL_FILES, *names))
    except CheckpointError:
        raise
    except GatedRepoError as error:
        raise CheckpointError(
            f"'{repo}' is gated: accept its terms on https://huggingface.co/{repo}, "
            "then `hf auth login`"
        ) from error
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise CheckpointError(
            f"'{repo}' is neither a folder here nor a checkpoint on the Hub: check the name, "
            "and `hf auth login` if it is private"
        ) from error
    except Exception as error:  # each HTTP library has errors of its own
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"'{repo}' is no folder here, and the Hub does not give it ({reason}): "
            "check the network, or export from a folder"
        ) from error


def _names_in(repo: str) -> list[str]:
    """The names of the repository's files; without a network, of those in the cache."""
    try:
        return HfApi().list_repo_files(repo)
    except (RepositoryNotFoundError, HFValidationError):
        raise
    except Exception:
        folder = _downloaded(repo, SMALL_FILES)  # the library falls back on its cache
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def _downloaded(repo: str, names: Iterable[str]) -> Path:
    return Path(snapshot_download(repo, allow_patterns=list(names)))
