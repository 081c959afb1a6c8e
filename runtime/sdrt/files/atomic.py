"""Folders and files that appear complete or not at all.

They are written in a draft next to their place, reach the disk, and are renamed. If a process is
killed, the next writer in that folder removes its draft.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from sdrt.errors import SdrtError
from sdrt.files.drafts import draft_in
from sdrt.files.unfinished import NEW, OLD, Change, write_change
from sdrt_engines.operating_system import (
    exchange,
    free_files,
    is_disk_full,
    is_in_use,
    is_over_quota,
    sync_to_disk,
)

Swap: TypeAlias = Callable[[Path, Path], bool]  # False if it cannot


@contextmanager
def appearing_folder(
    path: str | PathLike[str], *, replace: bool = False, proof: str, swap: Swap = exchange
) -> Iterator[Path]:
    """A new folder to fill. It appears at `path` after the block; an error removes it.

    An existing folder is kept unless `replace` is set, and even then it must contain the file
    `proof`, which shows that sdrt made it: a mistyped path must not delete a user's images. That
    holds for folders that appear during the block, too. The old folder stays until the new one is
    complete, and is exchanged in one step where the system can (`swap`). SdrtError if `path` is
    taken or not writable, or the disk is full.
    """
    target = _resolved(path)
    with _draft_for(target, target.parent) as draft:
        _require_free(target, replace, proof)
        (draft / NEW).mkdir()
        yield draft / NEW
        _sync_tree(draft / NEW)
        _require_free(target, replace, proof)  # again: the block may have taken minutes
        if replace and (target / proof).exists():
            _exchange(draft, target, proof, swap)
        else:
            _appear(draft / NEW, target, replace, proof)
        sync_to_disk(target.parent)


@contextmanager
def changed_folder(
    path: str | PathLike[str], *, last: str, obsolete: Iterable[str] = ()
) -> Iterator[Path]:
    """A folder to fill with new entries of the folder `path`, and with `last`, which may exist.

    After the block they appear there, `last` as the last one: the moment of the change. Then the
    files `obsolete` are removed. An error or an interrupt leaves the folder as it was. SdrtError if
    it is not writable, an entry exists already, or the disk is full.
    """
    root = _resolved(path)
    with _draft_for(root, root) as draft:
        (draft / NEW).mkdir()
        yield draft / NEW
        _sync_tree(draft / NEW)
        names = (entry.name for entry in (draft / NEW).iterdir() if entry.name != last)
        change = Change(last, tuple(sorted(names)), tuple(obsolete))
        sync_to_disk(write_change(draft, change))
        sync_to_disk(draft)
        _move_in(draft / NEW, root, change)


@contextmanager
def appearing_file(path: str | PathLike[str]) -> Iterator[Path]:
    """A path to write a file to. The file appears at `path` after the block.

    An existing file is replaced; the new one has its permissions. SdrtError if it is not writable
    or the disk is full.
    """
    target = _resolved(path)
    with _draft_for(target, target.parent) as draft:
        new = draft / NEW
        if target.exists() and not target.is_file():  # a folder, a device
            raise SdrtError(f"'{target}' is not a file: choose the name of a file to write")
        yield new
        if target.exists():
            new.chmod(stat.S_IMODE(target.stat().st_mode))
        sync_to_disk(new)
        new.replace(target)
        sync_to_disk(target.parent)


@contextmanager
def _draft_for(target: Path, folder: Path) -> Iterator[Path]:
    """A draft in `folder` for what is written to `target`.

    After an error the parent folders that were created for it are removed.
    """
    missing: list[Path] = []
    draft = None
    try:
        missing += [parent for parent in target.parents if not parent.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            target.lstat()  # its name may be too long
        with draft_in(folder) as draft, _lack_of_files_reported(target, draft):
            yield draft
    except BaseException as error:  # KeyboardInterrupt too
        for parent in missing:
            with suppress(OSError):
                parent.rmdir()
        if isinstance(error, OSError) and _is_about(error, target, draft):
            raise SdrtError(_reason(error, target)) from error
        raise


@contextmanager
def _lack_of_files_reported(target: Path, draft: Path) -> Iterator[None]:
    """Looks before the draft is removed, which makes room for other files."""
    try:
        yield
    except OSError as error:
        if is_disk_full(error) and _lacks_files(free_files(draft)):
            raise SdrtError(_reason(error, target)) from error
        raise


def _resolved(path: str | PathLike[str]) -> Path:
    try:
        return Path(path).resolve()
    except RuntimeError as error:
        raise SdrtError(f"'{path}' is a link that leads to itself: choose another path") from error


def _require_free(target: Path, replace: bool, proof: str) -> None:
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not replace:
        raise SdrtError(
            f"'{target}' already exists: choose another path, or replace it (--replace)"
        )
    _require_proof(target, target, proof)


def _require_proof(folder: Path, target: Path, proof: str) -> None:
    """SdrtError unless sdrt made the folder, which is at `target` or was moved from there."""
    if not (folder / proof).is_file():
        raise SdrtError(
            f"'{target}' was not made by sdrt, as it has no {proof}, and is not replaced: "
            "choose another path, or remove it yourself"
        )


def _appear(new: Path, target: Path, replace: bool, proof: str) -> None:
    """Moves `new` to `target`, where there is nothing or an empty folder."""
    with suppress(OSError):
        target.rmdir()
    try:
        new.rename(target)  # fails if anything but an empty folder is there now
    except OSError:
        _require_free(target, replace, proof)
        raise


def _exchange(draft: Path, target: Path, proof: str, swap: Swap) -> None:
    """Puts the new folder in the place of the one at `target`, which is then in the draft."""
    if swap(draft / NEW, target):
        try:
            _require_proof(draft / NEW, target, proof)
        except SdrtError:  # someone put another folder there at this very moment
            swap(draft / NEW, target)
            raise
    else:  # two steps: the next writer completes them if this one is killed between them
        (draft / OLD).mkdir()
        target.rename(draft / OLD / target.name)
        _require_proof(draft / OLD / target.name, target, proof)
        (draft / NEW).rename(target)


def _move_in(new: Path, root: Path, change: Change) -> None:
    for name in change.added:
        if os.path.lexists(root / name):
            raise SdrtError(f"'{root / name}' already exists: move it away")
        (new / name).rename(root / name)
    sync_to_disk(root)
    (new / change.last).replace(root / change.last)
    sync_to_disk(root)


def _sync_tree(folder: Path) -> None:
    for path, _, files in os.walk(folder):
        for name in files:
            sync_to_disk(Path(path, name))
        sync_to_disk(Path(path))


def _is_about(error: OSError, target: Path, draft: Path | None) -> bool:
    """True if writing failed; other errors inside the block are not explained here."""
    if draft is None:
        return True
    named = Path(str(error.filename))
    places = named.is_relative_to(draft), named.parent == target, target.is_relative_to(named)
    return is_disk_full(error) or any(places)


def _reason(error: OSError, target: Path) -> str:
    if not is_disk_full(error):
        remedy = "close what has it open, or " if is_in_use(error, target) else ""
        return f"cannot write '{target}': {error.strerror}: {remedy}choose another path"
    return f"{full_disk(error, target)}: make room, or choose a path on another disk"


def full_disk(error: OSError, target: Path, num_files: int | None = None) -> str:
    """The reason why there is no room for `target`: bytes, files, or this user's share of them.

    `num_files` is the number of files that can still be created there, by default as measured.
    """
    place = next(parent for parent in (target, *target.parents) if parent.exists())
    if is_over_quota(error):
        return f"'{target}' needs more than your quota on this disk allows"
    if _lacks_files(free_files(place) if num_files is None else num_files):
        return f"the disk is full: it has no room for another file like '{target}' (no free inodes)"
    free = shutil.disk_usage(place).free
    return (
        f"the disk is full: '{target}' needs more than the {free / 1e6:.0f} MB that are free there"
    )


def _lacks_files(num_files: int | None) -> bool:
    """True if there is not even room for a draft: its folder, its lock, one file."""
    return num_files is not None and num_files < 3
