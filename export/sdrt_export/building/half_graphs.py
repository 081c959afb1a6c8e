"""Typed half-precision graphs: plans are built from them, and ONNX Runtime CUDA runs them.

Graphs for ONNX Runtime CUDA in float16 are fused (`fusing`): its fused kernels take no other type.
"""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import ENGINES, Component
from sdrt.bundle.optimum_folder import MODEL_NAME
from sdrt.bundle.unlinked import unlinked
from sdrt.files.drafts import scratch_in
from sdrt.targets.built_graph import HalfGraph
from sdrt.targets.plan_record import onnx_digests
from sdrt_engines import Target
from sdrt_engines.onnxruntime_cuda import CUDA
from sdrt_export.building.builder import Builder, BuildOptions
from sdrt_export.building.graph_folder import (
    appearing_graph,
    missing_graphs,
    records_of_draft,
    write_record,
)
from sdrt_export.building.probes import probe_cases
from sdrt_export.building.workplace import build_alone, disk_full_as_build_error
from sdrt_export.errors import BuildError, require_libraries
from sdrt_export.options import Report
from sdrt_export.precision.policy import POLICY_VERSION, HalfType, rules_for

if TYPE_CHECKING:
    from sdrt_export.precision.check import PrecisionReport

FUSIONS_VERSION = 1  # of the passes in `fusing`


def build_half_graphs(
    bundle: Bundle, target: Target, options: BuildOptions, report: Report
) -> list[Path]:
    """Builds the bundle's networks in half precision, for ONNX Runtime CUDA.

    Returns the new graphs. A graph of the same network, policy and precision stays. BuildError, and
    the errors of a broken bundle.
    """
    require_onnx()
    with build_alone(bundle.root, CUDA.name, report), disk_full_as_build_error(bundle.root):
        missing = missing_graphs(
            bundle,
            options.components,
            lambda component: _graph_of(bundle, component, options.half),
            report,
        )
        return [_build(bundle, component, options.half, report) for component in missing]


def require_onnx() -> None:
    """BuildError if the library that reads graphs is not installed."""
    require_libraries(["onnx"], BuildError, "'sdrt build'", "onnx")


def write_half_graph(
    bundle: Bundle, component: Component, half: HalfType, folder: Path, report: Report
) -> PrecisionReport:
    """Writes the typed graph into `folder`.

    The search for what must stay float32 runs once; later calls read its result from the bundle.
    """
    from sdrt_export.precision.check import write_half, write_known
    from sdrt_export.precision.record import known_precision, remember_precision

    config = bundle.component_config(component.name)
    rules = rules_for(bundle.family.name, component.role, config)
    known = known_precision(bundle, component, half)
    with unlinked(bundle.root, component.files) as root:
        model = root / component.model
        if known is not None:
            write_known(model, folder, known, rules)
            return known
        report(f"{component.name}: finding what must stay float32")
        found = write_half(model, folder, half, rules, probe_cases(bundle, component.name))
    if found.reason is not None:
        report(f"{component.name}: stays float32: {found.reason}")
    remember_precision(bundle, component, half, found)
    return found


def _graph_of(bundle: Bundle, component: Component, half: HalfType) -> HalfGraph | None:
    """The network's graph if it has this policy and precision, else None."""
    graph = HalfGraph.of(bundle.root, CUDA.name, component)
    if graph is None or graph.precision not in (half, "fp32"):
        return None
    made_by = graph.policy, graph.fusions
    return graph if made_by == (POLICY_VERSION, FUSIONS_VERSION) else None


def _build(bundle: Bundle, component: Component, half: HalfType, report: Report) -> Path:
    with appearing_graph(bundle, CUDA.name, component, HalfGraph) as draft:
        found = _write_graph(bundle, component, half, draft, report)
        graph = HalfGraph(
            onnx=onnx_digests(bundle.root, component),
            files=records_of_draft(draft, CUDA.name, component),
            precision=found.precision,
            promoted=found.promoted,
            policy=POLICY_VERSION,
            fusions=FUSIONS_VERSION,
            psnr=found.psnr if math.isfinite(found.psnr) else None,
            reason=found.reason,
        )
        write_record(draft, graph)
    return bundle.root / graph.model


def _write_graph(
    bundle: Bundle, component: Component, half: HalfType, folder: Path, report: Report
) -> PrecisionReport:
    """Writes the graph that the backend runs, fused if it is float16."""
    from sdrt_export.fusing.fused_graph import write_fused

    with scratch_in(bundle.root / ENGINES) as work:
        found = write_half_graph(bundle, component, half, work, report)
        if found.precision == "fp16":
            report(f"{component.name}: fusing")
            write_fused(work / MODEL_NAME, folder)
        else:
            for path in work.iterdir():
                shutil.move(path, folder)
    return found


HALF_GRAPHS = Builder(
    backend=CUDA,
    takes=frozenset({"components", "precision"}),
    require=lambda target: require_onnx(),
    build=build_half_graphs,
)
