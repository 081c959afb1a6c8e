"""A draft's unfinished business: what its writer had begun is completed or undone.

Everything is decided by what lies on the disk, so it does not matter where the writer stopped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sdrt.errors import BundleError, SdrtError
from sdrt.files.json_fields import JsonFields
from sdrt.files.records import json_from_record, record_from_json

NEW = "new"  # what the writer writes
OLD = "old"  # a folder with what was moved away for it, under its own name
_CHANGE = "change.json"


@dataclass(frozen=True)
class Change:
    """A change of the folder that holds the draft. It is done when `last` has moved there."""

    last: str
    added: tuple[str, ...]  # new names in the folder
    obsolete: tuple[str, ...]  # files to remove, relative to the folder, with slashes

    def __post_init__(self) -> None:
        for name in (self.last, *self.added):
            if name in ("", ".", "..") or re.search(r"[/\\:]", name):
                raise BundleError(f"got '{name}', expected a name in the folder")
        for name in self.obsolete:
            parts = PurePosixPath(name).parts
            if not parts or ".." in parts or re.search(r"^/|[\\:]", name):
                raise BundleError(f"got '{name}', expected a path inside the folder")


def write_change(draft: Path, change: Change) -> Path:
    """Writes down what will change, so that the next writer can settle it."""
    path = draft / _CHANGE
    path.write_text(json.dumps(json_from_record(change)), encoding="utf-8")
    return path


def settle(draft: Path) -> bool:
    """Completes or undoes what was begun; True if the draft can be removed."""
    try:
        _settle_change(draft)
        return _settle_move(draft)
    except OSError:
        return False


def remove(path: Path) -> None:
    """Removes a file, a link or a folder with its contents."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _settle_move(draft: Path) -> bool:
    """Moves back what was moved away, unless the new folder has arrived in its place."""
    for moved in _entries(draft / OLD):
        home = draft.parent / moved.name
        if not os.path.lexists(home):
            moved.rename(home)
        elif (draft / NEW).exists():  # not the new one: somebody else made it
            return False
    return True


def _settle_change(draft: Path) -> None:
    change = _change_in(draft)
    if change is None:
        return
    folder = draft.parent
    if (draft / NEW / change.last).exists():
        for name in change.added:
            if not (draft / NEW / name).exists():
                remove(folder / name)
    else:
        for name in change.obsolete:
            _remove_obsolete(folder, name)
    (draft / _CHANGE).unlink()  # before anything else of the draft, which it is read with


def _change_in(draft: Path) -> Change | None:
    """The change that was begun; None if nothing has moved yet."""
    try:
        text = (draft / _CHANGE).read_bytes()
        return record_from_json(Change, JsonFields.parse(text).values)
    except (FileNotFoundError, SdrtError):  # not written, or not completely
        return None


def _remove_obsolete(folder: Path, name: str) -> None:
    """Removes a file, and the folders that are empty then."""
    path = folder / name
    if not path.parent.resolve().is_relative_to(folder.resolve()):  # through a link
        return
    path.unlink(missing_ok=True)
    with suppress(OSError):  # not empty
        for parent in path.relative_to(folder).parents[:-1]:
            (folder / parent).rmdir()


def _entries(folder: Path) -> Iterator[Path]:
    with suppress(FileNotFoundError):
        yield from list(folder.iterdir())
