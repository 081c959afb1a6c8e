"""Paths in an image's parameters: absolute in memory, relative to the image in its PNG.

So a folder with a bundle, inputs and results can be moved, and does not name its owner.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sdrt.bundle.demo import DEMO

_IMAGES = ("image", "mask_image")
_BUNDLES = ("bundle", "refiner")
HASHES = "files"  # the parameter that holds the sha256 of each input, by its path
MERGED = "merged"  # the parameter that lists the LoRAs and embeddings in the bundle


def relative_paths(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The parameters with paths relative to `folder`."""
    root = folder.resolve()

    def relative(path: str) -> str:
        try:
            found = Path(os.path.relpath(path, root)).as_posix()
        except ValueError:  # on another drive of Windows
            return path
        return f"./{found}" if found == DEMO else found

    return _with_paths(parameters, relative)


def absolute_paths(parameters: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The inverse of `relative_paths`; older images hold absolute paths, which stay."""
    root = folder.resolve()
    return _with_paths(parameters, lambda path: os.path.normpath(root / path))


def without_paths(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters without paths; of the bundle only the name remains, as `model`."""
    kept = _with_paths({**parameters, HASHES: None}, lambda path: None)
    if "bundle" in parameters and "bundle" not in kept:
        kept["model"] = Path(parameters["bundle"]).name
    return kept


def paths_in(parameters: Mapping[str, Any]) -> list[str]:
    """The paths of the input images."""
    found: list[str] = []
    _with_paths({**parameters, **dict.fromkeys(_BUNDLES, DEMO), HASHES: None}, found.append)
    return found


def _with_paths(
    parameters: Mapping[str, Any], convert: Callable[[str], str | None]
) -> dict[str, Any]:
    """The parameters with every path converted; None removes it. Any program may have written
    them, so values of other types stay."""

    def converted(values: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
        found = {name: convert(values[name]) for name in names if isinstance(values.get(name), str)}
        return {name: value for name, value in {**values, **found}.items() if value is not None}

    bundles = (name for name in _BUNDLES if parameters.get(name) != DEMO)
    result = converted(parameters, (*bundles, *_IMAGES))
    if isinstance(controls := result.get("control"), dict):
        result["control"] = {
            name: converted(control, ("image",)) if isinstance(control, dict) else control
            for name, control in controls.items()
        }
    if isinstance(hashes := result.get(HASHES), dict):
        result[HASHES] = {convert(path): sha256 for path, sha256 in hashes.items()}
    return result
