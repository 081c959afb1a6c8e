"""A checkpoint to a bundle: check it, export each network, copy the rest, write the manifest."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import Any, Literal

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from sdrt.atomic import appearing_folder
from sdrt.file_records import record_file
from sdrt.manifest import MANIFEST_NAME, Component, FileRecord, Manifest
from sdrt.onnx_folder import MODEL_INDEX, fields_from_file
from sdrt_export.checkpoint import WEIGHTS_NAMES, Checkpoint, checkpoint_from_source
from sdrt_export.errors import ExportError

# A checkpoint may bring what its author found best, in a file of this name beside model_index.json:
# {"guidance_scale": 5.0, "num_inference_steps": 20}
DEFAULTS_NAME = "sdrt_defaults.json"
SMALL_FOLDERS = ("tokenizer", "scheduler")
TOOLS = ("sdrt", "torch", "diffusers", "transformers", "onnx", "onnxruntime")


def export_checkpoint(
    source: str | PathLike[str],
    output: str | PathLike[str],
    *,
    replace: bool = False,
    weights: Literal["fp32", "fp16"] = "fp32",
) -> Path:
    """Exports `source` (a diffusers folder, a Hub id, or "demo") to a bundle at `output`.

    Every network is compared with torch; the bundle appears when all of them agree, or not at all.
    "fp16" halves the files: weights are stored in float16, and computed with in float32. Progress
    is shown where stderr is a terminal.

    Returns the bundle's path. Raises CheckpointError for a checkpoint that is missing, broken or of
    a kind that sdrt does not export, ExportError for a network that does not give what torch gives,
    and SdrtError where `output` is taken (unless `replace`) or cannot be written.
    """
    checkpoint = checkpoint_from_source(source)
    defaults = _defaults_of(checkpoint)
    with appearing_folder(output, replace=replace) as bundle, _progress() as report:
        components = _export_components(checkpoint, bundle, weights, report)
        _copy_small_files(checkpoint, bundle)
        manifest = Manifest(
            family=checkpoint.family,
            components=components,
            files=_records_beside(components, bundle),
            source=checkpoint.source,
            tools={name: import_module(name).__version__ for name in TOOLS},
            created=datetime.now(UTC).isoformat(timespec="seconds"),
            defaults=defaults,
        )
        (bundle / MANIFEST_NAME).write_text(manifest.to_json(), encoding="utf-8")
    return Path(output)


def _export_components(
    checkpoint: Checkpoint,
    bundle: Path,
    weights: Literal["fp32", "fp16"],
    report: Callable[[str], None],
) -> tuple[Component, ...]:
    try:  # seconds: after the checks
        from sdrt_export.component import NETWORKS, export_component
    except ModuleNotFoundError as error:
        raise ExportError(
            f"an export needs {error.name}, which is not installed: pip install 'sdrt[export]'"
        ) from error
    return tuple(export_component(name, checkpoint, bundle, weights, report) for name in NETWORKS)


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
def _progress() -> Iterator[Callable[[str], None]]:
    """A line on the terminal that tells the stage and how long the export has taken."""
    console = Console(stderr=True)
    columns = (SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task("exporting")
        yield lambda stage: progress.update(task, description=stage)
