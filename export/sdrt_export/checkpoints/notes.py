"""Notes on a checkpoint: the parts that an export leaves out, signs of a wrong VAE, and what LoRAs
do to its size."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.families.known import has_part
from sdrt.notes import Note
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.parts import (
    REFINER,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_XL,
    VAE,
    CheckpointKind,
    PartKind,
)
from sdrt_export.options import WeightStorage

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


def notes_on_loras(checkpoint: Checkpoint, weights: WeightStorage) -> Iterator[Note]:
    """A note if networks are stored in twice the size because of the LoRAs that change them."""
    changed = {part for each in checkpoint.loras if each.scale for part in each.lora.found.parts}
    halves = [
        kind.folder
        for kind in checkpoint.kind.parts
        if kind.folder in changed and _is_half(checkpoint, kind)
    ]
    if weights == "auto" and halves:
        yield Note(
            code="lora_in_float32",
            field="weights",
            message=f"weights: {' and '.join(halves)} in float16 will be stored in float32, twice "
            "the size, because merged weights are not float16 numbers: --weights fp16 rounds them",
        )


def _is_half(checkpoint: Checkpoint, kind: PartKind) -> bool:
    """True if the model's weights are in float16. Only headers are read."""
    weights = checkpoint.weights[kind]
    files = [SafetensorsFile.open(checkpoint.folder / name) for name in weights.files]
    keys = None if weights.names is None else {key.key for key in weights.names.values()}
    types = {
        info.dtype
        for file in files
        for key, info in file.tensors.items()
        if keys is None or key in keys
    }
    return {name for name in types if "F" in name} == {"F16"}  # others are constants
