"""Which builder serves which target."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sdrt.bundle.folder import Bundle
from sdrt_engines import Target
from sdrt_export.options import Report

BUILT = ("cpu", "cuda", "tensorrt", "tensorrt-rtx")  # the backends that run what was built for them
WHOLE = ("cpu", "cuda")  # of these, those that run every shape with one graph


def require_buildable(target: Target) -> None:
    """BuildError or EngineError unless what `target`, one of `BUILT`, runs can be built here."""
    if target.backend == "cpu":
        from sdrt_export.building.prepared_graphs import require_preparer

        require_preparer()
        return
    from sdrt_export.building.half_graphs import require_onnx
    from sdrt_export.building.plans import require_buildable as require_plans

    require_onnx()
    if target.backend != "cuda":
        require_plans(target)


def build_for(target: Target, bundle: Bundle, report: Report, **wanted: Any) -> list[Path]:
    """Builds into the bundle; the paths of what was not there."""
    from sdrt_export.building.half_graphs import build_half_graphs
    from sdrt_export.building.plans import build_bundle
    from sdrt_export.building.prepared_graphs import build_prepared_graphs

    if target.backend == "cpu":
        return build_prepared_graphs(bundle, report=report, **wanted)
    if target.backend == "cuda":
        return build_half_graphs(bundle, report=report, **wanted)
    made = build_bundle(bundle, target, report=report, **wanted)
    return [bundle.root / record.plan.path for record in made.built]
