"""Folders and files that appear complete or not at all."""

from __future__ import annotations

import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from sdrt.errors import SdrtError
from sdrt_engines.operating_system import is_disk_full, is_in_use


@contextmanager
def appearing_folder(
    path: str | PathLike[str], *, replace: bool = False, proof: str
) -> Iterator[Path]:
    """A new folder to fill. It appears at `path` after the block; an error removes it.

    An existing folder is kept unless `replace` is set, and even then it must contain the file
    `proof`, which shows that sdrt made it: a mistyped path must not delete a user's images. The
    old folder stays until the new one is complete. SdrtError if `path` is taken or not writable,
    or the disk is full.
    """
    target = Path(path).resolve()
    with _draft_of(target) as draft:
        _require_free(target, replace, proof)
        draft.mkdir()
        yield draft
        _swap(draft, target)


@contextmanager
def changed_folder(path: str | PathLike[str], *, last: str) -> Iterator[Path]:
    """A folder to fill with changed or new entries of the folder `path`.

    After the block they replace those of the same names, `last` as the last one. An error or an
    interrupt leaves the folder as it was. SdrtError if it is not writable or the disk is full.
    """
    root = Path(path).resolve()
    with _draft_of(root, _hidden(root / "change")) as draft:
        draft.mkdir()
        yield draft
        _exchange(draft, root, last)
        _remove(draft)


@contextmanager
def appearing_file(path: str | PathLike[str]) -> Iterator[Path]:
    """A path to write a file to. The file appears at `path` after the block.

    An existing file is replaced. SdrtError if it is not writable or the disk is full.
    """
    target = Path(path).resolve()
    with _draft_of(target) as draft:
        if target.exists() and not target.is_file():  # a folder, a device
            raise SdrtError(f"'{target}' is not a file: choose the name of a file to write")
        yield draft
        draft.replace(target)


@contextmanager
def _draft_of(target: Path, draft: Path | None = None) -> Iterator[Path]:
    """A hidden path next to `target`, so on the same disk.

    After an error it is removed, with the parent folders that were created for it.
    """
    draft = draft or _hidden(target)
    missing: list[Path] = []
    try:
        missing += [parent for parent in target.parents if not parent.exists()]
        target.parent.mkdir(parents=True, exist_ok=True)
        yield draft
    except BaseException as error:  # KeyboardInterrupt too
        _remove(draft)
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and _is_about(error, target, draft):
            raise SdrtError(_reason(error, target)) from error
        raise


def _require_free(target: Path, replace: bool, proof: str) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not replace:
        raise SdrtError(
            f"'{target}' already exists: choose another path, or replace it (--replace)"
        )
    if not (target / proof).is_file():
        raise SdrtError(
            f"'{target}' was not made by sdrt, as it has no {proof}, and is not replaced: "
            "choose another path, or remove it yourself"
        )


def _swap(draft: Path, target: Path) -> None:
    """Moves `draft` to `target`; restores the old `target` if that fails."""
    if not target.exists():
        draft.rename(target)
        return
    old = _hidden(target)
    target.rename(old)
    try:
        draft.rename(target)
    except BaseException:
        old.rename(target)
        raise
    _remove(old)


def _exchange(draft: Path, root: Path, last: str) -> None:
    """Moves the entries of `draft` to `root`; restores the replaced ones if one cannot move."""
    names = [entry.name for entry in draft.iterdir() if entry.name != last]
    old = _hidden(draft / "old")
    old.mkdir()
    try:
        for name in names:
            if (root / name).exists():
                (root / name).rename(old / name)
            (draft / name).rename(root / name)
        (draft / last).replace(root / last)
    except BaseException:
        if (draft / last).exists():  # not moved yet, so not finished
            for name in names:
                _undo(draft / name, root / name, old / name)
        raise


def _undo(draft: Path, target: Path, old: Path) -> None:
    if not draft.exists():
        target.rename(draft)
    if old.exists():
        old.rename(target)


def _is_about(error: OSError, target: Path, draft: Path) -> bool:
    """True if writing failed; other errors inside the block are not explained here."""
    named = Path(str(error.filename))
    places = named.is_relative_to(draft), named.parent == target, target.is_relative_to(named)
    return is_disk_full(error) or any(places)


def _reason(error: OSError, target: Path) -> str:
    if not is_disk_full(error):
        remedy = "close what has it open, or " if is_in_use(error, target) else ""
        return f"cannot write '{target}': {error.strerror}: {remedy}choose another path"
    free = shutil.disk_usage(next(parent for parent in target.parents if parent.exists())).free
    return (
        f"the disk is full: '{target}' needs more than the {free / 1e6:.0f} MB that are free "
        "there: make room, or choose a path on another disk"
    )


def _hidden(target: Path) -> Path:
    return target.parent / f".{target.name}.{os.getpid()}.{secrets.token_hex(4)}"


def _remove(path: Path) -> None:
    with suppress(OSError):  # not even `is_dir` works in a folder of another user
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()
