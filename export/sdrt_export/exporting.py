"""A checkpoint to a bundle: check it, export each network, copy the rest, write the manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from sdrt.bundle.manifest import MANIFEST_NAME, write_manifest
from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.bundle.writing import only_writer
from sdrt.errors import BundleError
from sdrt.files.atomic import appearing_folder
from sdrt.files.json_fields import within
from sdrt.notes import Note
from sdrt.parameters import check_recommended
from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.checkpoints.controlnet import (
    ControlNetCheckpoint,
    Sources,
    controlnets_from_sources,
)
from sdrt_export.checkpoints.controlnet_compatibility import host_of_folder
from sdrt_export.checkpoints.loras import Loras, loras_from_sources
from sdrt_export.checkpoints.notes import notes_on_folder
from sdrt_export.components import components_of_checkpoint, components_of_controlnets
from sdrt_export.errors import CheckpointError
from sdrt_export.manifests import manifest_of
from sdrt_export.options import Report, WeightStorage
from sdrt_export.progress import WAITING, shown_progress

# A checkpoint may hold its author's recommended settings in a file of this name, next to
# model_index.json: {"guidance_scale": 5.0, "num_inference_steps": 20}
DEFAULTS_NAME = "sdrt_defaults.json"
NO_CONTROLNETS: Sources = MappingProxyType({})


def export_checkpoint(
    source: str | PathLike[str],
    output: str | PathLike[str],
    *,
    replace: bool = False,
    weights: WeightStorage = "auto",
    controlnets: Sources = NO_CONTROLNETS,
    loras: Loras = (),
    on_note: Callable[[Note], object] = lambda note: None,
) -> Path:
    """Exports `source` (a diffusers folder, a Hub id, or "demo") to a bundle at `output`.

    Every network is compared with torch; the bundle appears if all of them agree, or not at all.
    `weights` sets how weights are stored; computation is in float32. "fp16" halves the files, which
    then open faster; "auto" does so for networks whose weights it does not change. `controlnets`
    are folders or Hub ids by name, in addition to those in the checkpoint. `loras` are safetensors
    files in the order in which they are merged into UNet and text encoders: paths, pairs of path
    and scale, or scales by path. Progress is shown if stderr is a terminal. `on_note` is called
    with each part of the checkpoint that is left out.

    Returns the bundle's path. Raises CheckpointError for a checkpoint or a ControlNet that is
    missing, broken, of a kind that sdrt does not export, or does not fit the other; FileError for a
    LoRA that is broken or does not fit completely; ExportError for a network whose outputs differ
    from torch's; SdrtError if `output` exists (unless `replace`) or cannot be written.
    """
    checkpoint = checkpoint_from_source(source)
    added = _controlnets_to_add(checkpoint, controlnets)
    scaled = loras_from_sources(loras)
    defaults = _defaults_of(checkpoint)
    for note in notes_on_folder(checkpoint.folder, checkpoint.kind):
        on_note(note)
    with (
        shown_progress() as report,
        _only_writer_of_old(Path(output), report),
        appearing_folder(output, replace=replace, proof=MANIFEST_NAME) as bundle,
    ):
        components = (
            *components_of_checkpoint(checkpoint, bundle, weights, report, scaled),
            *components_of_controlnets(added, bundle, weights, report),
        )
        _copy_small_files(checkpoint, bundle)
        merged = tuple(each.record for each in scaled)
        write_manifest(bundle, manifest_of(checkpoint, components, defaults, bundle, merged))
    return Path(output)


def _only_writer_of_old(output: Path, report: Report) -> AbstractContextManager[None]:
    """Waits for builds in the bundle that is replaced, if there is one."""
    if not (output / MANIFEST_NAME).is_file():
        return nullcontext()
    return only_writer(output, lambda: report(WAITING))


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
