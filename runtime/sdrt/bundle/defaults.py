"""Changes a bundle's defaults: the values for parameters that a request leaves out."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from sdrt.bundle.demo import is_demo
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import MANIFEST_NAME, Manifest
from sdrt.bundle.writing import only_writer
from sdrt.errors import BundleError, RequestError, did_you_mean
from sdrt.files.atomic import appearing_file
from sdrt.parameters import ALIASES
from sdrt.recommended import RECOMMENDED

Change = int | float | None  # None: the family's default


def set_defaults(
    root: Path, changes: Mapping[str, Change], waiting: Callable[[], None]
) -> Manifest:
    """Writes the defaults `changes` into the manifest of the bundle at `root`, and seals it.

    Returns the new manifest. `waiting` is called if another writer is at work. RequestError for a
    parameter without a default or a value out of range, BundleError if the bundle cannot be
    changed; then nothing is written.
    """
    bundle = Bundle.open(root)
    _require_own_manifest(bundle)
    _checked(bundle, changes)
    with only_writer(root, waiting):
        changed = _changed(Bundle.open(root), changes)  # read again: it may just have changed
        with appearing_file(root / MANIFEST_NAME) as draft:
            draft.write_text(changed.to_json() + "\n", "utf-8", "backslashreplace")
    return changed


def _changed(bundle: Bundle, changes: Mapping[str, Change]) -> Manifest:
    checked = _checked(bundle, changes)
    defaults = {**bundle.manifest.defaults, **checked}
    kept = {name: value for name, value in defaults.items() if value is not None}
    return replace(bundle.manifest, defaults=kept)


def _checked(bundle: Bundle, changes: Mapping[str, Change]) -> dict[str, Change]:
    return {name: _checked_value(bundle, name, value) for name, value in changes.items()}


def _checked_value(bundle: Bundle, name: str, value: Change) -> Change:
    if name not in RECOMMENDED:
        known = did_you_mean(name, RECOMMENDED, ALIASES)
        raise RequestError(f"a bundle has no default for {name!r}, {known}")
    if value is None:
        return None
    checked = RECOMMENDED[name].checked(name, value)
    multiple = bundle.family.latents.pixel_multiple
    if name in ("width", "height") and checked % multiple:
        raise RequestError(f"{name}: got {checked}, expected a multiple of {multiple}")
    return checked


def _require_own_manifest(bundle: Bundle) -> None:
    """BundleError unless the bundle's manifest can be written."""
    path = bundle.root / MANIFEST_NAME
    if is_demo(bundle.root):
        raise BundleError(
            "the built-in bundle stays as it is: copy it, and change the copy: "
            f"`cp -r {shlex.quote(str(bundle.root))} NEW_BUNDLE`"
        )
    if path.is_symlink():
        raise BundleError(
            f"{path}: is a link to {path.resolve()}, which other folders may share: copy the "
            "folder, and change the copy"
        )
    if not path.exists():
        raise BundleError(
            f"'{bundle.root}' has no {MANIFEST_NAME}, which holds the defaults (optimum made it): "
            "export its checkpoint with sdrt"
        )
