"""The files of `sdrt tune`'s verdicts: in this user's cache, a folder for each bundle's path, a
file for each machine.

They are not in the bundle, which may be read-only and moves between machines. Users whose machines
share a home folder have one file for each kind of machine.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.bundle.folder import Bundle
from sdrt.errors import BundleError, SdrtError
from sdrt.files.cache import VARIABLE, cache_folder
from sdrt_engines.regular_file import open_regular

if TYPE_CHECKING:
    from sdrt.targets.tuned import Machine, Tuning

RECORD_VERSION = 1
_KEY_LENGTH = 16  # hexadecimal digits
_MAX_SIZE = 1 << 20  # bytes; a verdict has a few thousand


@dataclass(frozen=True)
class Found:
    """A verdict in the cache, and the reason why it does not hold now."""

    path: Path
    tuning: Tuning | None  # None if it cannot be read
    fault: str | None  # None if it holds


def tuning_of(bundle: Bundle) -> Tuning | None:
    """The verdict on the bundle that holds now, or None.

    For a bundle that was never tuned this costs one look at a folder.
    """
    try:
        if not tuning_folder(bundle).is_dir():
            return None
        found = _found(bundle, tuning_path(bundle))
    except (OSError, SdrtError):
        return None
    return found.tuning if found.fault is None else None


def verdicts_on(bundle: Bundle) -> Iterator[Found]:
    """Every verdict on the bundle: this machine's, then those of others. SdrtError."""
    own = tuning_path(bundle)
    try:
        paths = [path for path in own.parent.iterdir() if path.suffix == ".json"]
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:  # such as a folder of another user
        raise SdrtError(
            f"'{own.parent}' cannot be read: {error.strerror}: set {VARIABLE} to a folder that can"
        ) from error
    for path in sorted(paths, key=lambda path: (path != own, path)):
        yield _found(bundle, path)


def write_tuning(bundle: Bundle, tuning: Tuning) -> Path:
    """Writes the verdict, replacing an earlier one. SdrtError if it cannot be written."""
    from sdrt.files.atomic import appearing_file
    from sdrt.files.records import json_from_record

    document = {"record_version": RECORD_VERSION, "bundle": str(bundle.root.resolve())}
    document |= json_from_record(tuning)
    path = tuning_path(bundle, tuning.conditions.machine)
    with appearing_file(path) as draft:
        draft.write_text(json.dumps(document, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    return path


def forget_tuning(bundle: Bundle) -> Path | None:
    """Removes this machine's verdict; returns its path, or None if it did not exist."""
    path = tuning_path(bundle)
    try:
        path.unlink()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise SdrtError(f"'{path}' cannot be removed: {error.strerror}: remove it") from error
    with suppress(OSError):  # not empty: other machines' verdicts are there
        path.parent.rmdir()
    return path


def tuning_folder(bundle: Bundle) -> Path:
    """The folder of the verdicts on a bundle. SdrtError if there is no cache folder."""
    return cache_folder() / "tuned" / _key(str(bundle.root.resolve()))


def tuning_path(bundle: Bundle, machine: Machine | None = None) -> Path:
    """The file of a machine's verdict on a bundle; None means this machine."""
    from sdrt.targets.conditions import this_machine

    return tuning_folder(bundle) / f"{_key(str(machine or this_machine()))}.json"


def _found(bundle: Bundle, path: Path) -> Found:
    from sdrt.targets.conditions import change_between, conditions_of

    try:
        tuning = _tuning_from_json(_content(path))
        return Found(path, tuning, change_between(tuning.conditions, conditions_of(bundle)))
    except OSError as error:
        return Found(path, None, f"it cannot be read: {error.strerror}")
    except SdrtError as error:
        return Found(path, None, str(error))


def _content(path: Path) -> bytes:
    with open_regular(path) as file:
        content = file.read(_MAX_SIZE + 1)
    if len(content) > _MAX_SIZE:
        raise BundleError(f"it has more than {_MAX_SIZE} bytes")
    return content


def _tuning_from_json(content: bytes) -> Tuning:
    """BundleError if it is broken or from another version of sdrt."""
    from sdrt.files.json_fields import JsonFields
    from sdrt.files.records import record_from_json
    from sdrt.targets.tuned import Tuning

    fields = JsonFields.parse(content)
    version = fields.integer("record_version")
    if version != RECORD_VERSION:
        raise BundleError(f"record_version: got {version}, expected {RECORD_VERSION}")
    about = ("record_version", "bundle")
    values = {name: value for name, value in fields.values.items() if name not in about}
    return record_from_json(Tuning, values)


def _key(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()[:_KEY_LENGTH]
