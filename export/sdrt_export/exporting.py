"""A checkpoint to a bundle: check it, export each network, copy the rest, write the manifest.

Also adds ControlNets to an existing bundle.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from datetime import UTC, datetime
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sdrt import tensor_names as names
from sdrt.bundle.demo import is_demo
from sdrt.bundle.file_records import record_file
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import (
    MANIFEST_NAME,
    RESIDUALS,
    Component,
    FileRecord,
    Manifest,
    write_manifest,
)
from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.bundle.writing import only_writer
from sdrt.errors import BundleError
from sdrt.files.atomic import appearing_folder, changed_folder
from sdrt.files.json_fields import JsonFields, within
from sdrt.notes import Note
from sdrt.parameters import check_recommended
from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.checkpoints.controlnet import (
    ControlNetCheckpoint,
    Sources,
    controlnets_from_sources,
)
from sdrt_export.checkpoints.controlnet_compatibility import Host, host_of_folder
from sdrt_export.checkpoints.notes import notes_on_folder
from sdrt_export.checkpoints.parts import kind_of_family
from sdrt_export.errors import CheckpointError, ExportError, missing_library_as
from sdrt_export.options import Report, WeightStorage
from sdrt_export.replacing import files_of_controlnets, in_free_folder

# A checkpoint may hold its author's recommended settings in a file of this name, next to
# model_index.json: {"guidance_scale": 5.0, "num_inference_steps": 20}
DEFAULTS_NAME = "sdrt_defaults.json"
TOOLS = ("sdrt", "torch", "diffusers", "transformers", "onnx", "onnxruntime")
WAITING = "waiting for another writer of the bundle to end"
NO_CONTROLNETS: Sources = MappingProxyType({})


def export_checkpoint(
    source: str | PathLike[str],
    output: str | PathLike[str],
    *,
    replace: bool = False,
    weights: WeightStorage = "auto",
    controlnets: Sources = NO_CONTROLNETS,
    on_note: Callable[[Note], object] = lambda note: None,
) -> Path:
    """Exports `source` (a diffusers folder, a Hub id, or "demo") to a bundle at `output`.

    Every network is compared with torch; the bundle appears if all of them agree, or not at all.
    `weights` sets how weights are stored; computation is in float32. "fp16" halves the files, which
    then open faster; "auto" does so for networks whose weights it does not change. `controlnets`
    are folders or Hub ids by name, in addition to those in the checkpoint. Progress is shown if
    stderr is a terminal. `on_note` is called with each part of the checkpoint that is left out.

    Returns the bundle's path. Raises CheckpointError for a checkpoint or a ControlNet that is
    missing, broken, of a kind that sdrt does not export, or does not fit the other; ExportError for
    a network whose outputs differ from torch's; SdrtError if `output` exists (unless `replace`) or
    cannot be written.
    """
    checkpoint = checkpoint_from_source(source)
    added = _controlnets_to_add(checkpoint, controlnets)
    defaults = _defaults_of(checkpoint)
    for note in notes_on_folder(checkpoint.folder, checkpoint.kind):
        on_note(note)
    with (
        _progress() as report,
        _only_writer_of_old(Path(output), report),
        appearing_folder(output, replace=replace, proof=MANIFEST_NAME) as bundle,
    ):
        components = (
            *_export_checkpoint(checkpoint, bundle, weights, report),
            *_export_controlnets(added, bundle, weights, report),
        )
        _copy_small_files(checkpoint, bundle)
        write_manifest(bundle, _manifest_of(checkpoint, components, defaults, bundle))
    return Path(output)


def add_controlnets(
    bundle: str | PathLike[str],
    controlnets: Sources,
    *,
    replace: bool = False,
    weights: WeightStorage = "auto",
) -> Path:
    """Exports ControlNets, folders or Hub ids by name, into a bundle; its other files stay.

    The bundle changes if all of them agree with torch, or not at all. Returns its path. Raises
    CheckpointError and ExportError as `export_checkpoint` does; BundleError if there is no bundle;
    ExportError if it has no controlled UNet, or already has a ControlNet of that name (unless
    `replace`).
    """
    _require_room(Bundle.open(Path(bundle)), controlnets, replace)
    with _progress() as report, only_writer(Path(bundle), lambda: report(WAITING)):
        opened = Bundle.open(Path(bundle))  # again: another export may just have changed it
        _require_room(opened, controlnets, replace)
        added = controlnets_from_sources(controlnets, _host_of(opened))
        replaced = files_of_controlnets(opened.manifest, controlnets)
        with changed_folder(opened.root, last=MANIFEST_NAME, obsolete=replaced) as draft:
            exported = tuple(_export_controlnets(added, draft, weights, report))
            components = [in_free_folder(component, draft, opened.root) for component in exported]
            write_manifest(draft, _manifest_with(opened.manifest, components, replaced, draft))
    return Path(bundle)


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


def _host_of(bundle: Bundle) -> Host:
    unet = JsonFields(bundle.component_config(bundle.name_of("denoiser")))
    kind = kind_of_family(bundle.family.name)
    return Host(unet, bundle.family.latents.vae_scale_factor, kind)


def _require_room(bundle: Bundle, controlnets: Iterable[str], replace: bool) -> None:
    """ExportError if the bundle cannot take ControlNets of these names."""
    if is_demo(bundle.root):
        raise ExportError(
            f"'{bundle.root}' is the built-in bundle and stays as it is: copy the folder, and add "
            "to the copy"
        )
    if bundle.find("denoiser", RESIDUALS) is None or not (bundle.root / MANIFEST_NAME).exists():
        raise ExportError(
            f"'{bundle.root}' has no UNet for ControlNets (it was made by an older sdrt or by "
            "optimum): export its checkpoint again"
        )
    for name in controlnets:
        if bundle.has(names.controlnet(name)) and not replace:
            raise ExportError(
                f"'{bundle.root}' already has a ControlNet '{name}': choose another name, "
                "or replace it (--replace)"
            )


def _export_checkpoint(
    checkpoint: Checkpoint, bundle: Path, weights: WeightStorage, report: Report
) -> Iterator[Component]:
    with _libraries():
        from sdrt_export.component import export_part
        from sdrt_export.networks.loading import parts_from_checkpoint
    for part in parts_from_checkpoint(checkpoint):
        yield from export_part(part, bundle, weights, report)


def _export_controlnets(
    controlnets: Iterable[ControlNetCheckpoint],
    bundle: Path,
    weights: WeightStorage,
    report: Report,
) -> Iterator[Component]:
    with _libraries():
        from sdrt_export.component import export_part
        from sdrt_export.networks.loading import part_from_controlnet
    for controlnet in controlnets:
        for component in export_part(part_from_controlnet(controlnet), bundle, weights, report):
            yield dataclasses.replace(component, source=controlnet.source)


def _libraries() -> AbstractContextManager[None]:
    """Surrounds imports that take seconds, which therefore come after the checks."""
    return missing_library_as(ExportError, "an export", "'sdrt[export]'")


def _manifest_of(
    checkpoint: Checkpoint,
    components: tuple[Component, ...],
    defaults: Mapping[str, Any],
    bundle: Path,
) -> Manifest:
    return Manifest(
        family=checkpoint.family,
        components=components,
        files=_other_records(components, bundle),
        source=checkpoint.source,
        tools=_tools(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        defaults=defaults,
    )


def _manifest_with(
    manifest: Manifest, components: Iterable[Component], replaced: Collection[str], draft: Path
) -> Manifest:
    """The manifest with `components`, whose files are in `draft`.

    They replace their namesakes, whose files are `replaced`.
    """
    tools = _tools()
    others = {} if tools == manifest.tools else tools
    added = [dataclasses.replace(component, tools=others) for component in components]
    taken = {component.name for component in added}
    return dataclasses.replace(
        manifest,
        components=(*(c for c in manifest.components if c.name not in taken), *added),
        files=(
            *(file for file in manifest.files if file.path not in replaced),
            *_other_records(added, draft),
        ),
    )


def _tools() -> dict[str, str]:
    return {name: import_module(name).__version__ for name in TOOLS}


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


def _other_records(components: Iterable[Component], bundle: Path) -> tuple[FileRecord, ...]:
    """The records of all files that do not belong to a network."""
    recorded = {file.path for component in components for file in component.files}
    paths = sorted(path for path in bundle.rglob("*") if path.is_file())
    others = (path for path in paths if path.relative_to(bundle).as_posix() not in recorded)
    return tuple(record_file(bundle, path) for path in others)


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


@contextmanager
def _progress() -> Iterator[Report]:
    """A line on the terminal with the current stage and the time since the start."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("exporting")
        yield lambda stage: progress.update(task, description=stage)
