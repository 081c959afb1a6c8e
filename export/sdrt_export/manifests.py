"""Manifests of bundles that are written or changed."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from sdrt.bundle.file_records import record_file
from sdrt.bundle.manifest import Component, FileRecord, Manifest
from sdrt_export.checkpoints.checkpoint import Checkpoint

TOOLS = ("sdrt", "torch", "diffusers", "transformers", "onnx", "onnxruntime")


def manifest_of(
    checkpoint: Checkpoint,
    components: tuple[Component, ...],
    defaults: Mapping[str, Any],
    bundle: Path,
) -> Manifest:
    return Manifest(
        family=checkpoint.family,
        components=components,
        files=_other_records(components, bundle),
        source=checkpoint.source,
        tools=_tools(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        defaults=defaults,
        merged=checkpoint.merged,
    )


def manifest_with(
    manifest: Manifest,
    added: Sequence[Component],
    replaced: Collection[str],
    draft: Path,
    edited: Sequence[Component] = (),
) -> Manifest:
    """The manifest with networks whose files are in `draft`: exported ones that are `added`, and
    `edited` ones, which were exported before.

    They replace their namesakes, whose files are `replaced`.
    """
    tools = _tools() if added else manifest.tools
    others = {} if tools == manifest.tools else tools
    written = [*edited, *(dataclasses.replace(each, tools=others) for each in added)]
    new = {each.name: each for each in written}
    kept = [new.pop(each.name, each) for each in manifest.components]
    return dataclasses.replace(
        manifest,
        components=(*kept, *new.values()),
        files=(
            *(file for file in manifest.files if file.path not in replaced),
            *_other_records(written, draft),
        ),
    )


def _tools() -> dict[str, str]:
    return {name: import_module(name).__version__ for name in TOOLS}


def _other_records(components: Iterable[Component], bundle: Path) -> tuple[FileRecord, ...]:
    """The records of all files that do not belong to a network."""
    recorded = {file.path for component in components for file in component.files}
    paths = sorted(path for path in bundle.rglob("*") if path.is_file())
    others = (path for path in paths if path.relative_to(bundle).as_posix() not in recorded)
    return tuple(record_file(bundle, path) for path in others)
