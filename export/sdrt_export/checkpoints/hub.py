"""Folders from the Hugging Face Hub; only the files that an export reads are downloaded."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

from sdrt_export.errors import CheckpointError


@dataclass(frozen=True)
class FilesWanted:
    """The files that an export reads from a repository. Both functions raise CheckpointError."""

    small_files: tuple[str, ...]  # names and patterns
    check_names: Callable[[Collection[str]], object]  # of all files, before the first download
    # The weights to download, from the folder with the small files and the names of all files.
    weights: Callable[[Path, Collection[str]], Iterable[str]]


def is_hub_id(text: str) -> bool:
    """True if the text could be a Hub id: "owner/name"."""
    return re.fullmatch(r"\w[\w.-]*/[\w.-]+", text) is not None


def folder_from_hub(repo: str, wanted: FilesWanted) -> tuple[Path, str]:
    """The local folder with the files of `repo`, and the repository's name with the commit.

    Files in the cache are not downloaded again. Small files are downloaded and checked first, so a
    checkpoint that sdrt cannot export costs no gigabytes. CheckpointError for such a checkpoint,
    and if the Hub does not deliver the files.
    """
    from huggingface_hub import errors  # here, as it is slow to import

    try:
        names = _names_in(repo, wanted)
        wanted.check_names(names)
        weights = wanted.weights(_downloaded(repo, wanted.small_files), names)
        folder = _downloaded(repo, (*wanted.small_files, *weights))
    except CheckpointError:
        raise
    except errors.GatedRepoError as error:
        raise CheckpointError(
            f"'{repo}' is gated: accept its terms on https://huggingface.co/{repo}, "
            "then `hf auth login`"
        ) from error
    except (errors.RepositoryNotFoundError, errors.HFValidationError) as error:
        raise CheckpointError(
            f"'{repo}' is neither a folder here nor a checkpoint on the Hub: check the name, "
            "and `hf auth login` if it is private"
        ) from error
    except errors.LocalEntryNotFoundError as error:
        raise CheckpointError(
            f"'{repo}' is not a folder here, and the Hub does not answer: check the network, or "
            "export from a folder"
        ) from error
    except Exception as error:  # each HTTP library has its own errors
        reason = " ".join(str(error).split())
        raise CheckpointError(
            f"'{repo}' is not a folder here, and the Hub does not deliver it ({reason}): "
            "check the network, or export from a folder"
        ) from error
    return folder, f"{repo}@{folder.name}"  # the Hub's cache names a snapshot after its commit


def _names_in(repo: str, wanted: FilesWanted) -> list[str]:
    """The names of the repository's files; without a network, of those in the cache."""
    from huggingface_hub import HfApi, errors

    try:
        found = HfApi().model_info(repo, revision="main")  # list_repo_files retries for 25 seconds
        return [file.rfilename for file in found.siblings or ()]
    except (errors.RepositoryNotFoundError, errors.HFValidationError):
        raise
    except Exception as error:
        try:
            folder = _downloaded(repo, wanted.small_files, from_cache=True)
        except errors.LocalEntryNotFoundError:
            if isinstance(error, errors.HfHubHTTPError):  # it answers, with an error
                raise error from None
            raise
        return [path.relative_to(folder).as_posix() for path in folder.rglob("*")]


def _downloaded(repo: str, names: Iterable[str], *, from_cache: bool = False) -> Path:
    from huggingface_hub import snapshot_download

    return Path(
        snapshot_download(repo, allow_patterns=list(names), local_files_only=from_cache),
    )
