"""Notes on the parts of a checkpoint that an export leaves out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.notes import Note

SAFETY_CHECKER = "safety_checker"


def notes_on_folder(folder: Path) -> Iterator[Note]:
    """The notes on the checkpoint in `folder`."""
    index = fields_from_file(folder / MODEL_INDEX).values
    part = index.get(SAFETY_CHECKER)  # [null, null] for a missing part
    present = isinstance(part, list) and any(part)
    if present or index.get("requires_safety_checker") is True:
        yield Note(
            code="part_not_exported",
            field=SAFETY_CHECKER,
            message="safety_checker: not exported, sdrt runs without it",
        )
