"""Notes on a checkpoint: the parts that an export leaves out, and signs of a wrong VAE."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.families.known import has_part
from sdrt.notes import Note
from sdrt_export.checkpoints.parts import (
    REFINER,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_XL,
    VAE,
    CheckpointKind,
)

SAFETY_CHECKER = "safety_checker"
IMAGE_ENCODER = "image_encoder"  # of IP-Adapters, which a request may leave out

# The scaling factors of the published VAEs, and diffusers' default.
_SCALING_FACTORS: Mapping[CheckpointKind, float] = {
    STABLE_DIFFUSION: 0.18215,
    STABLE_DIFFUSION_XL: 0.13025,
    REFINER: 0.13025,
}


def notes_on_folder(folder: Path, kind: CheckpointKind) -> Iterator[Note]:
    """The notes on the parts of the checkpoint in `folder`, which has been checked."""
    index = fields_from_file(folder / MODEL_INDEX)
    for name in (SAFETY_CHECKER, IMAGE_ENCODER):
        if has_part(index, name) or index.values.get(f"requires_{name}") is True:
            yield Note(
                code="part_not_exported",
                field=name,
                message=f"{name}: not exported, sdrt runs without it",
            )


def notes_on_vae(folder: Path, kind: CheckpointKind) -> Iterator[Note]:
    """A note if the scaling factor is that of the VAE of another family: the latents would fit."""
    default = _SCALING_FACTORS[STABLE_DIFFUSION]
    vae = fields_from_file(folder / VAE.config)
    factor = vae.number("scaling_factor", default=default)
    expected = _SCALING_FACTORS.get(kind, factor)
    if factor != expected and factor in _SCALING_FACTORS.values():
        other = next(each for each, value in _SCALING_FACTORS.items() if value == factor)
        yield Note(
            code="vae_of_another_family",
            field="vae",
            message=f"vae: its scaling_factor, {factor}, is that of {other.title}, expected "
            f"{expected} as in {kind.title}: if the images look wrong, take the VAE that belongs "
            "to the UNet",
        )
