"""VAEs that a bundle has in place of its checkpoint's, or next to it: found and checked.

Nothing here imports torch, so bad input is reported at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from sdrt.bundle.optimum_folder import fields_from_file
from sdrt.families.family import Family, LatentSpace
from sdrt.families.known import (
    TINY_VAE_CLASS,
    latents_from_config,
    latents_from_tiny_config,
    latents_with_vae,
)
from sdrt.files.json_fields import JsonFields
from sdrt.notes import Note
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.compatibility import sizes
from sdrt_export.checkpoints.model_files import tiny_vae_in_file, vae_in_file
from sdrt_export.checkpoints.model_folder import ModelFolder, Source, model_from_source
from sdrt_export.checkpoints.parts import OTHER_VAE, TINY_VAE, VAE, PartKind


@dataclass(frozen=True)
class TinyVae(ModelFolder):
    """A checked tiny autoencoder, and the scale of its latents."""

    latents: LatentSpace


def with_other_vae(checkpoint: Checkpoint, source: Source) -> Checkpoint:
    """The checkpoint with another VAE, from a diffusers folder, a file or a Hub id.

    A file has no scaling factor: it is that of the checkpoint's own.

    CheckpointError if that is missing, incomplete, pickled, or of other latents.
    """
    family, own = checkpoint.family, fields_from_file(checkpoint.folder / VAE.config)

    def complaints(config: JsonFields) -> Iterator[str]:
        yield from _complaints(OTHER_VAE, config)
        yield from _complaints_about_latents(latents_from_config(config), family.latents)

    vae = model_from_source(
        source, OTHER_VAE, complaints, lambda path: vae_in_file(path, own.values)
    )
    latents = latents_with_vae(family, fields_from_file(vae.config))
    return replace(checkpoint, vae=vae, family=replace(family, latents=latents))


def tiny_vae_from_source(source: Source, family: Family) -> TinyVae:
    """The tiny autoencoder in a diffusers folder, a file or at a Hub id. Errors as above."""

    def complaints(config: JsonFields) -> Iterator[str]:
        yield from _complaints(TINY_VAE, config)
        yield from _complaints_about_levels(config)
        yield from _complaints_about_latents(latents_from_tiny_config(config), family.latents)

    vae = model_from_source(source, TINY_VAE, complaints, tiny_vae_in_file)
    latents = latents_from_tiny_config(fields_from_file(vae.config))
    return TinyVae(**vars(vae), latents=latents)


def note_on_other_scale(vae: ModelFolder, given: LatentSpace, own: LatentSpace) -> Note:
    """The note on a VAE that scales latents differently from the checkpoint's own."""
    return Note(
        code="vae_scale_differs",
        field="vae",
        message=f"vae: '{vae.source}' scales latents {_scale_text(given)}, the checkpoint's own "
        f"VAE {_scale_text(own)}: if the images look wrong, take one that was made for this model",
    )


_OPTIONS = {"AutoencoderKL": "--vae", TINY_VAE_CLASS: "--tiny-vae"}


def _complaints(kind: PartKind, config: JsonFields) -> Iterator[str]:
    got = config.text(kind.library.class_field, default="not a model of diffusers")
    if got != kind.class_name:
        hint = f": give it as {_OPTIONS[got]}" if got in _OPTIONS else ""
        yield f"it is {got}, expected {kind.class_name}{hint}"
    for name in kind.sizes:
        sizes(config, name, default=[1])
    for name in ("in_channels", "out_channels"):
        channels = config.integer(name, 3)
        if channels != 3:
            yield f"it has {name}={channels}, expected 3: red, green and blue"


def _complaints_about_latents(given: LatentSpace, expected: LatentSpace) -> Iterator[str]:
    if given.channels != expected.channels:
        yield (
            f"it has {given.channels} latent channels, the UNet has {expected.channels}: it is "
            "made for another family"
        )
    if given.vae_scale_factor != expected.vae_scale_factor:
        yield (
            f"it has {given.vae_scale_factor} pixels per latent, the checkpoint's VAE "
            f"{expected.vae_scale_factor}: it is made for another model"
        )


_LEVELS = 4  # of TAESD


def _complaints_about_levels(config: JsonFields) -> Iterator[str]:
    """Complaints about halves that do not undo each other."""
    counts = {
        name: len(sizes(config, name, default=[1] * _LEVELS))
        for name in TINY_VAE.sizes
        if name.endswith(("blocks", "block_out_channels"))
    }
    if len(set(counts.values())) > 1:
        listed = ", ".join(f"{name} has {count}" for name, count in counts.items())
        yield f"its halves have different numbers of levels ({listed})"
    factor = config.integer("upsampling_scaling_factor", 2)
    if factor != 2:
        yield f"it has upsampling_scaling_factor={factor}, expected 2"


def _scale_text(latents: LatentSpace) -> str:
    shift = f" after a shift of {latents.shift_factor:g}" if latents.shift_factor else ""
    per_channel = " and channel by channel" if latents.mean is not None else ""
    return f"by {latents.scaling_factor:g}{shift}{per_channel}"
