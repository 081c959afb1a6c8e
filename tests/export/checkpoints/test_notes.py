"""Notes on the parts of a checkpoint that an export leaves out."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sdrt.notes import Note
from sdrt_export.checkpoints.notes import notes_on_folder

pytestmark = pytest.mark.export

CLASS = ["stable_diffusion", "StableDiffusionSafetyChecker"]


@pytest.mark.parametrize(
    ("index", "noted"),
    [
        ({"safety_checker": CLASS, "requires_safety_checker": True}, True),
        ({"safety_checker": CLASS}, True),
        ({"requires_safety_checker": True}, True),
        ({"safety_checker": [None, None], "requires_safety_checker": False}, False),
        ({}, False),
    ],
)
def test_a_safety_checker_is_noted(index: dict[str, Any], noted: bool, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    message = "safety_checker: not exported, sdrt runs without it"
    note = Note("part_not_exported", "safety_checker", message)
    assert [*notes_on_folder(tmp_path)] == ([note] if noted else [])
