"""A checkpoint to a bundle: check it, export each network, copy the rest, write the manifest.

And ControlNets to a bundle that is there.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from os import PathLike
from pathlib import Path
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sdrt import tensor_names as names
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
from sdrt.files.atomic import appearing_folder, changed_folder
from sdrt.files.json_fields import JsonFields
from sdrt_export.checkpoints.checkpoint import WEIGHTS_NAMES, Checkpoint, checkpoint_from_source
from sdrt_export.checkpoints.controlnet import (
    ControlNetCheckpoint,
    Sources,
    controlnets_from_sources,
)
from sdrt_export.checkpoints.controlnet_compatibility import Host, host_of_folder
from sdrt_export.errors import CheckpointError, ExportError
from sdrt_export.options import Report, WeightStorage

# A checkpoint may bring what its author found best, in a file of this name beside model_index.json:
# {"guidance_scale": 5.0, "num_inference_steps": 20}
DEFAULTS_NAME = "sdrt_defaults.json"
SMALL_FOLDERS = ("tokenizer", "scheduler")
TOOLS = ("sdrt", "torch", "diffusers", "transformers", "onnx", "onnxruntime")
NO_CONTROLNETS: Sources = MappingProxyType({})


def export_checkpoint(
    source: str | PathLike[str],
    output: str | PathLike[str],
    *,
    replace: bool = False,
    weights: WeightStorage = "auto",
    controlnets: Sources = NO_CONTROLNETS,
) -> Path:
    """Exports `source` (a diffusers folder, a Hub id, or "demo") to a bundle at `output`.

    Every network is compared with torch; the bundle appears when all of them agree, or not at all.
    `weights` says how they are stored, computed with is float32: "fp16" halves the files and opens
    faster; "auto" does so for networks of which it changes no weight.
    `controlnets` are folders or Hub ids by name, besides those that the checkpoint brings. Progress
    is shown where stderr is a terminal.

    Returns the bundle's path. Raises CheckpointError for a checkpoint or a ControlNet that is
    missing, broken, of a kind that sdrt does not export, or does not fit the other; ExportError for
    a network that does not give what torch gives, and SdrtError where `output` is taken (unless
    `replace`) or cannot be written.
    """
    checkpoint = checkpoint_from_source(source)
    beside = _controlnets_beside(checkpoint, controlnets)
    defaults = _defaults_of(checkpoint)
    with (
        appearing_folder(output, replace=replace, proof=MANIFEST_NAME) as bundle,
        _progress() as report,
    ):
        components = (
            *_export_checkpoint(checkpoint, bundle, weights, report),
            *_export_controlnets(beside, bundle, weights, report),
        )
        _copy_small_files(checkpoint, bundle)
        manifest = Manifest(
            family=checkpoint.family,
            components=components,
            files=_records_beside(components, bundle),
            source=checkpoint.source,
            tools=_tools(),
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            defaults=defaults,
        )
        write_manifest(bundle, manifest)
    return Path(output)


def add_controlnets(
    bundle: str | PathLike[str],
    controlnets: Sources,
    *,
    replace: bool = False,
    weights: WeightStorage = "auto",
) -> Path:
    """Exports ControlNets, folders or Hub ids by name, into a bundle; its other files stay.

    The bundle changes when all of them agree with torch, or not at all. Returns its path. Raises
    CheckpointError and ExportError as `export_checkpoint` does; BundleError where there is no
    bundle, and ExportError where it has no controlled UNet, or has a ControlNet of such a name
    already (unless `replace`).
    """
    opened = Bundle.open(Path(bundle))
    _require_room(opened, controlnets, replace)
    unet = JsonFields(opened.component_config(names.UNET))
    host = Host(unet, opened.family.latents.vae_scale_factor)
    added = controlnets_from_sources(controlnets, host)
    with changed_folder(opened.root, last=MANIFEST_NAME) as draft, _progress() as report:
        components = tuple(_export_controlnets(added, draft, weights, report))
        write_manifest(draft, _manifest_with(opened.manifest, components, draft))
    return Path(bundle)


def _controlnets_beside(
    checkpoint: Checkpoint, sources: Sources
) -> tuple[ControlNetCheckpoint, ...]:
    """The ControlNets that the checkpoint does not bring itself."""
    for controlnet in checkpoint.controlnets:
        if controlnet.name in sources:
            raise CheckpointError(
                f"'{checkpoint.source}' brings a ControlNet '{controlnet.name}' itself: "
                "choose another name for yours"
            )
    return controlnets_from_sources(sources, host_of_folder(checkpoint.folder, checkpoint.source))


def _require_room(bundle: Bundle, controlnets: Iterable[str], replace: bool) -> None:
    """ExportError where the bundle cannot take ControlNets of these names."""
    if bundle.find("denoiser", RESIDUALS) is None or not (bundle.root / MANIFEST_NAME).exists():
        raise ExportError(
            f"'{bundle.root}' has no UNet that a ControlNet could control (an older sdrt or "
            "optimum made it): export its checkpoint again"
        )
    for name in controlnets:
        if bundle.has(names.controlnet(name)) and not replace:
            raise ExportError(
                f"'{bundle.root}' has a ControlNet '{name}' already: choose another name, "
                "or replace it"
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


@contextmanager
def _libraries() -> Iterator[None]:
    """Around imports that take seconds, which is why they come after the checks."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise ExportError(
            f"an export needs {error.name}, which is not installed: pip install 'sdrt[export]'"
        ) from error


def _manifest_with(manifest: Manifest, components: Iterable[Component], draft: Path) -> Manifest:
    """The manifest with `components`, whose files lie in `draft`, instead of any so called."""
    tools = _tools()
    others = {} if tools == manifest.tools else tools
    added = [dataclasses.replace(component, tools=others) for component in components]
    folders = tuple(f"{component.name}/" for component in added)
    taken = {component.name for component in added}
    return dataclasses.replace(
        manifest,
        components=(*(c for c in manifest.components if c.name not in taken), *added),
        files=(
            *(file for file in manifest.files if not file.path.startswith(folders)),
            *_records_beside(added, draft),
        ),
    )


def _tools() -> dict[str, str]:
    return {name: import_module(name).__version__ for name in TOOLS}


def _copy_small_files(checkpoint: Checkpoint, bundle: Path) -> None:
    """What a runtime reads beside the networks, and `model_index.json` for other tools."""
    for name in SMALL_FOLDERS:
        shutil.copytree(checkpoint.folder / name, bundle / name)
    index = fields_from_file(checkpoint.folder / MODEL_INDEX).values
    for name, value in index.items():
        if isinstance(value, list) and name not in (*SMALL_FOLDERS, *WEIGHTS_NAMES):
            index[name] = [None, None]  # diffusers' way to say that a part is not there
    (bundle / MODEL_INDEX).write_text(json.dumps(index, indent=2), encoding="utf-8")


def _records_beside(components: Iterable[Component], bundle: Path) -> tuple[FileRecord, ...]:
    """The records of all files that belong to no network."""
    recorded = {file.path for component in components for file in component.files}
    paths = sorted(path for path in bundle.rglob("*") if path.is_file())
    beside = (path for path in paths if path.relative_to(bundle).as_posix() not in recorded)
    return tuple(record_file(bundle, path) for path in beside)


def _defaults_of(checkpoint: Checkpoint) -> dict[str, Any]:
    path = checkpoint.folder / DEFAULTS_NAME
    return fields_from_file(path).values if path.is_file() else {}


@contextmanager
def _progress() -> Iterator[Report]:
    """A line on the terminal that tells the stage and how long the export has taken."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("exporting")
        yield lambda stage: progress.update(task, description=stage)
