"""Changes a bundle's manifest and files such that hashes and digest fit again."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sdrt.bundle.file_records import record_file
from sdrt.bundle.manifest import sealed
from support.damage import overwrite


def edit_manifest(bundle: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Changes the manifest and seals it again."""
    path = bundle / "sdrt.json"
    document = json.loads(path.read_text(encoding="utf-8"))
    change(document)
    path.write_text(json.dumps(sealed(document)), encoding="utf-8")


def replace_recorded(bundle: Path, path: str, content: bytes) -> None:
    """Writes another file, and a manifest that matches it."""
    overwrite(bundle / path, content)
    record = record_file(bundle, path)

    def change(manifest: dict[str, Any]) -> None:
        for owner in (manifest, *manifest["components"]):
            owner["files"] = [
                vars(record) if file["path"] == path else file for file in owner["files"]
            ]

    edit_manifest(bundle, change)


def remove_record(bundle: Path, path: str) -> None:
    """Leaves a file where it is, but takes it out of the manifest."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["files"] = [file for file in manifest["files"] if file["path"] != path]

    edit_manifest(bundle, change)


def remove_component(bundle: Path, name: str) -> None:
    """Takes a network out of the manifest."""

    def change(manifest: dict[str, Any]) -> None:
        manifest["components"] = [each for each in manifest["components"] if each["name"] != name]

    edit_manifest(bundle, change)
