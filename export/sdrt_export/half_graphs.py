"""Typed half-precision graphs: what plans are built from, and what ONNX Runtime CUDA runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from sdrt.atomic import appearing_folder
from sdrt.bundle import Bundle
from sdrt.errors import SdrtError
from sdrt.file_records import verify_file
from sdrt.half_graph import RECORD_NAME, HalfGraph, half_graph_of
from sdrt.manifest import Component
from sdrt.onnx_folder import MODEL_NAME
from sdrt.plan_record import graph_folder, onnx_digests
from sdrt.seeded_inputs import seeded_inputs
from sdrt_engines import Array
from sdrt_export.build_folder import build_alone, full_disk_told, records_of_draft
from sdrt_export.errors import BuildError
from sdrt_export.precision_policy import POLICY_VERSION, HalfType, rules_for

if TYPE_CHECKING:
    from sdrt_export.precision_check import PrecisionReport

Report: TypeAlias = Callable[[str], None]  # is told each stage

BACKEND = "cuda"
_LATENTS = 8  # height and width that a network is tried at: half precision shows there, too


def build_half_graphs(
    bundle: Bundle,
    *,
    precision: HalfType = "fp16",
    components: Sequence[str] = (),
    report: Report = lambda line: None,
) -> list[Path]:
    """The bundle's networks (`components`, or all) in half precision, for ONNX Runtime CUDA.

    Returns the graphs that were not there. What is there from the same network, policy and
    precision stays. BuildError, and what a broken bundle raises.
    """
    require_onnx()
    chosen = [bundle.component(name) for name in components] or bundle.manifest.components
    with build_alone(bundle.root, BACKEND, report), full_disk_told(bundle.root):
        missing = [component for component in chosen if not _is_there(bundle, component, precision)]
        for component in chosen:
            if component not in missing:
                report(f"{component.name}: there already")
        return [_build(bundle, component, precision, report) for component in missing]


def require_onnx() -> None:
    """BuildError where the library that reads graphs is not installed."""
    if find_spec("onnx") is None:
        raise BuildError("'sdrt build' needs onnx, which is not installed: pip install onnx")


def write_half_graph(
    bundle: Bundle, component: Component, half: HalfType, folder: Path, report: Report
) -> PrecisionReport:
    """Writes the typed graph into `folder`; what stays float32 is looked for the first time, and
    then known."""
    from sdrt_export.precision_check import write_half, write_known
    from sdrt_export.precision_record import known_precision, remember_precision

    rules = rules_for(bundle.manifest.family, component.name)
    model = bundle.root / component.model
    known = known_precision(bundle, component, half)
    if known is not None:
        write_known(model, folder, known, rules)
        return known
    report(f"{component.name}: finding what must stay float32")
    found = write_half(model, folder, half, rules, [tried_on(bundle, component.name)])
    remember_precision(bundle, component, half, found)
    return found


def tried_on(bundle: Bundle, name: str) -> dict[str, Array]:
    """What finds the nodes that must stay float32: seeded inputs, and small ones."""
    return seeded_inputs(bundle, name, latents=_LATENTS)


def _is_there(bundle: Bundle, component: Component, half: HalfType) -> bool:
    graph = half_graph_of(bundle.root, BACKEND, component)
    if graph is None or graph.policy != POLICY_VERSION or graph.precision not in (half, "fp32"):
        return False
    try:
        for file in graph.files:
            verify_file(bundle.root, file)
    except SdrtError:
        return False
    return True


def _build(bundle: Bundle, component: Component, half: HalfType, report: Report) -> Path:
    for file in component.files:
        verify_file(bundle.root, file)
    folder = bundle.root / graph_folder(BACKEND, component.name)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with appearing_folder(folder, replace=True, proof=RECORD_NAME) as draft:
        found = write_half_graph(bundle, component, half, draft, report)
        graph = HalfGraph(
            onnx=onnx_digests(bundle.root, component),
            precision=found.precision,
            promoted=found.promoted,
            policy=POLICY_VERSION,
            psnr=found.psnr if math.isfinite(found.psnr) else None,
            files=records_of_draft(draft, graph_folder(BACKEND, component.name)),
        )
        (draft / RECORD_NAME).write_text(graph.to_json(), encoding="utf-8")
    return folder / MODEL_NAME
