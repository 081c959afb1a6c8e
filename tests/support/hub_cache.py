"""Folders as they lie in the Hub's cache: links to files with other names."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def hub_cache(source: Path, cache: Path) -> Path:
    """The folder as `snapshot_download` lays it out; returns the snapshot."""
    snapshot = cache / "snapshots/abc"
    for file in (path for path in source.rglob("*") if path.is_file()):
        blob = cache / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
        link = snapshot / file.relative_to(source)
        blob.parent.mkdir(parents=True, exist_ok=True)
        link.parent.mkdir(parents=True, exist_ok=True)
        blob.write_bytes(file.read_bytes())
        link.symlink_to(os.path.relpath(blob, link.parent))
    return snapshot
