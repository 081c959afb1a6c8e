"""The files of a network that is replaced, and the folder of its successor.

The new one has another folder, so that a bundle changes at the moment when its manifest does.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from sdrt.bundle.manifest import Component, FileRecord, Manifest


def files_of_networks(manifest: Manifest, names: Iterable[str]) -> tuple[str, ...]:
    """The recorded files that belong to these networks alone; none for new names."""
    wanted = set(names)
    replaced = [each for each in manifest.components if each.name in wanted]
    others = [each for each in manifest.components if each.name not in wanted]
    kept = {file.path for component in others for file in component.files}
    folders = {_folder(each.model) for each in replaced} - {_folder(each.model) for each in others}
    own = [file for component in replaced for file in component.files]
    configs = [file for file in manifest.files if _folder(file.path) in folders]
    return tuple(sorted({file.path for file in (*own, *configs)} - kept))


def in_free_folder(component: Component, draft: Path, root: Path) -> Component:
    """The component after its folder in `draft` got a name that is free in `root`."""
    old = _folder(component.model)
    new = free_name(old, root)
    if new == old:
        return component
    (draft / old).rename(draft / new)
    files = tuple(_moved(file, old, new) for file in component.files)
    model = files[[file.path for file in component.files].index(component.model)].path
    return dataclasses.replace(component, model=model, files=files)


def free_name(name: str, root: Path) -> str:
    """A name that no entry of `root` has: this one or, for instance, `name-2`."""
    candidates = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
    return next(each for each in candidates if not (root / each).exists())


def _folder(path: str) -> str:
    return PurePosixPath(path).parts[0]


def _moved(file: FileRecord, old: str, new: str) -> FileRecord:
    path = PurePosixPath(new) / PurePosixPath(file.path).relative_to(old)
    return dataclasses.replace(file, path=path.as_posix())
