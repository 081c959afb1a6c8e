"""A checkpoint to a bundle: check it, export each network, copy the rest, write the manifest."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from os import PathLike
from pathlib import Path
from typing import Any

from sdrt.adapters.found import Prediction
from sdrt.bundle.manifest import MANIFEST_NAME, write_manifest
from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.bundle.writing import only_writer
from sdrt.errors import BundleError
from sdrt.files.atomic import appearing_folder
from sdrt.files.json_fields import within
from sdrt.notes import Note
from sdrt.recommended import check_recommended
from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.checkpoints.controlnet import (
    NO_CONTROLNETS,
    ControlNetCheckpoint,
    Sources,
    controlnets_from_sources,
)
from sdrt_export.checkpoints.controlnet_compatibility import host_of_folder
from sdrt_export.checkpoints.embeddings import EmbeddingSources
from sdrt_export.checkpoints.loras import Loras, loras_from_sources
from sdrt_export.checkpoints.model_folder import Source
from sdrt_export.checkpoints.new_tokens import write_tokens
from sdrt_export.checkpoints.notes import notes_on_folder, notes_on_loras, notes_on_vae
from sdrt_export.checkpoints.text_encoders import with_embeddings
from sdrt_export.checkpoints.vae import (
    note_on_other_scale,
    tiny_vae_from_source,
    with_other_vae,
)
from sdrt_export.components import (
    Additions,
    components_of_additions,
    components_of_checkpoint,
)
from sdrt_export.errors import CheckpointError
from sdrt_export.manifests import manifest_of
from sdrt_export.options import Report, WeightStorage
from sdrt_export.progress import WAITING, shown_progress

# A checkpoint may hold its author's recommended settings in a file of this name, next to
# model_index.json: {"guidance_scale": 5.0, "num_inference_steps": 20}
DEFAULTS_NAME = "sdrt_defaults.json"


def export_checkpoint(
    source: str | PathLike[str],
    output: str | PathLike[str],
    *,
    replace: bool = False,
    weights: WeightStorage = "auto",
    controlnets: Sources = NO_CONTROLNETS,
    loras: Loras = (),
    embeddings: EmbeddingSources = (),
    vae: Source | None = None,
    tiny_vae: Source | None = None,
    prediction_type: Prediction | None = None,
    on_note: Callable[[Note], object] = lambda note: None,
) -> Path:
    """Exports `source` (a diffusers folder, a file, a Hub id, or "demo") to a bundle at `output`.

    Every network is compared with torch; the bundle appears if all of them agree, or not at all.
    `weights` sets how weights are stored; computation is in float32. "fp16" halves the files, which
    then open faster; "auto" does so for networks whose weights it does not change. `controlnets`,
    by name, and `tiny_vae` (TAESD) are added, `vae` replaces the checkpoint's: folders, files or
    Hub ids. `loras` are files, with scales in pairs or in a dict; `embeddings` files, or pairs of
    name and file. `prediction_type` is for single files, `on_note` takes what is assumed.

    CheckpointError and FileError for what is broken or does not fit, ExportError for a network that
    differs from torch, SdrtError if `output` exists (unless `replace`) or cannot be written.
    """
    own = checkpoint_from_source(source, prediction=prediction_type, vae_elsewhere=vae is not None)
    checkpoint = with_embeddings(_with_loras(_with_vae(own, vae), loras), embeddings)
    additions = _additions(checkpoint, controlnets, tiny_vae)
    defaults = _defaults_of(checkpoint)
    for note in _notes_on(checkpoint, own, weights):
        on_note(note)
    with _new_bundle(output, replace) as (bundle, report):
        components = (
            *components_of_checkpoint(checkpoint, bundle, weights, report),
            *components_of_additions(additions, bundle, weights, report),
        )
        _copy_small_files(checkpoint, bundle)
        write_manifest(bundle, manifest_of(checkpoint, components, defaults, bundle))
    return Path(output)


def _with_vae(checkpoint: Checkpoint, vae: Source | None) -> Checkpoint:
    return checkpoint if vae is None else with_other_vae(checkpoint, vae)


def _with_loras(checkpoint: Checkpoint, sources: Loras) -> Checkpoint:
    loras = loras_from_sources(sources)
    records = tuple(each.record for each in loras)
    return dataclasses.replace(checkpoint, loras=loras, merged=(*checkpoint.merged, *records))


def _notes_on(checkpoint: Checkpoint, own: Checkpoint, weights: WeightStorage) -> Iterator[Note]:
    """`own` is the checkpoint with its own VAE."""
    yield from checkpoint.notes
    yield from notes_on_loras(checkpoint, weights)
    yield from notes_on_folder(checkpoint.folder, checkpoint.kind)
    if checkpoint.vae is None:
        yield from notes_on_vae(checkpoint.folder, checkpoint.kind)
    elif checkpoint.family.latents != own.family.latents:
        yield note_on_other_scale(checkpoint.vae, checkpoint.family.latents, own.family.latents)


@contextmanager
def _new_bundle(output: str | PathLike[str], replace: bool) -> Iterator[tuple[Path, Report]]:
    """The folder of a new bundle to fill, and the function that shows progress on a terminal."""
    with (
        shown_progress() as report,
        _only_writer_of_old(Path(output), report),
        appearing_folder(output, replace=replace, proof=MANIFEST_NAME) as bundle,
    ):
        yield bundle, report


def _only_writer_of_old(output: Path, report: Report) -> AbstractContextManager[None]:
    """Waits for builds in the bundle that is replaced, if there is one."""
    if not (output / MANIFEST_NAME).is_file():
        return nullcontext()
    return only_writer(output, lambda: report(WAITING))


def _additions(checkpoint: Checkpoint, controlnets: Sources, tiny_vae: Source | None) -> Additions:
    return Additions(
        _controlnets_to_add(checkpoint, controlnets),
        None if tiny_vae is None else tiny_vae_from_source(tiny_vae, checkpoint.family),
    )


def _controlnets_to_add(
    checkpoint: Checkpoint, sources: Sources
) -> tuple[ControlNetCheckpoint, ...]:
    """The ControlNets of `sources`. CheckpointError if the checkpoint has one of the same name."""
    for controlnet in checkpoint.controlnets:
        if controlnet.name in sources:
            raise CheckpointError(
                f"'{checkpoint.source}' already has a ControlNet '{controlnet.name}': "
                "choose another name for yours"
            )
    return controlnets_from_sources(sources, host_of_folder(checkpoint.folder, checkpoint.source))


def _copy_small_files(checkpoint: Checkpoint, bundle: Path) -> None:
    """Copies the files that a runtime reads apart from networks, and `model_index.json` for
    others."""
    folders = checkpoint.kind.copied_folders
    for name in folders:
        shutil.copytree(checkpoint.folder / name, bundle / name)
    for part in checkpoint.kind.parts_for("text encoder"):
        if part.tokenizer is not None and part.folder in checkpoint.tokens:
            write_tokens(bundle / part.tokenizer, checkpoint.tokens[part.folder])
    exported = {*folders, *(part.folder for part in checkpoint.kind.parts)}
    index = fields_from_file(checkpoint.folder / MODEL_INDEX).values
    for name, value in index.items():
        if isinstance(value, list) and name not in exported:
            index[name] = [None, None]  # how diffusers marks a missing part
    (bundle / MODEL_INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _defaults_of(checkpoint: Checkpoint) -> dict[str, Any]:
    path = checkpoint.folder / DEFAULTS_NAME
    if not path.is_file():
        return {}
    try:
        with within(str(path)):
            defaults = fields_from_file(path).values
            check_recommended(defaults)
    except BundleError as error:
        raise CheckpointError(str(error)) from error
    return defaults
