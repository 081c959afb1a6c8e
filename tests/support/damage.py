"""Changes files that sdrt wrote, which are read-only."""

from __future__ import annotations

from pathlib import Path


def overwrite(path: Path, content: bytes) -> None:
    """Puts another file in the place of the one at `path`."""
    path.unlink()
    path.write_bytes(content)
