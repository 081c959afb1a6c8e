"""Notes on a checkpoint: what an export leaves out, and signs of a wrong VAE."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sdrt.notes import Note
from sdrt_export.checkpoints.notes import notes_on_folder, notes_on_vae
from sdrt_export.checkpoints.parts import (
    REFINER,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_XL,
    CheckpointKind,
)

pytestmark = pytest.mark.export

CLASS = ["stable_diffusion", "StableDiffusionSafetyChecker"]


def notes_on(
    folder: Path,
    kind: CheckpointKind,
    index: Mapping[str, Any] | None = None,
    vae: Mapping[str, Any] | None = None,
) -> list[Note]:
    (folder / "vae").mkdir()
    (folder / "model_index.json").write_text(json.dumps(index or {}))
    (folder / "vae/config.json").write_text(json.dumps(vae or {}))
    return [*notes_on_folder(folder, kind), *notes_on_vae(folder, kind)]


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
    message = "safety_checker: not exported, sdrt runs without it"
    note = Note("part_not_exported", "safety_checker", message)
    assert notes_on(tmp_path, STABLE_DIFFUSION, index) == ([note] if noted else [])


def test_an_image_encoder_is_noted(tmp_path: Path) -> None:
    index = {"image_encoder": ["transformers", "CLIPVisionModelWithProjection"]}
    (note,) = notes_on(tmp_path, STABLE_DIFFUSION, index)
    assert note.message == "image_encoder: not exported, sdrt runs without it"


@pytest.mark.parametrize(
    ("kind", "factor", "noted"),
    [
        (STABLE_DIFFUSION, None, False),
        (STABLE_DIFFUSION, 0.18215, False),
        (STABLE_DIFFUSION, 0.13025, True),
        (STABLE_DIFFUSION, 0.5, False),  # unknown, so perhaps intended
        (STABLE_DIFFUSION_XL, 0.13025, False),
        (STABLE_DIFFUSION_XL, 0.18215, True),
        (STABLE_DIFFUSION_XL, None, True),  # diffusers' default
        (REFINER, 0.18215, True),
        (REFINER, 0.13025, False),
    ],
)
def test_a_vae_of_another_family_is_noted(
    kind: CheckpointKind, factor: float | None, noted: bool, tmp_path: Path
) -> None:
    """Its latents have the right shape, and the image is wrong."""
    notes = notes_on(tmp_path, kind, vae={"scaling_factor": factor})
    assert [note.code for note in notes] == ["vae_of_another_family"] * noted


def test_the_note_names_both_factors(tmp_path: Path) -> None:
    (note,) = notes_on(tmp_path, STABLE_DIFFUSION_XL, vae={"scaling_factor": 0.18215})
    assert note.message == (
        "vae: its scaling_factor, 0.18215, is that of Stable Diffusion 1 and 2, expected 0.13025 "
        "as in Stable Diffusion XL models: if the images look wrong, take the VAE that belongs to "
        "the UNet"
    )
