"""All builders, by their targets."""

from __future__ import annotations

from typing import Final

from sdrt_engines import Target, backend_of
from sdrt_export.building.builder import Builder
from sdrt_export.building.half_graphs import HALF_GRAPHS
from sdrt_export.building.int8_graphs import INT8_GRAPHS
from sdrt_export.building.plans import TENSORRT_PLANS, TENSORRT_RTX_PLANS
from sdrt_export.building.prepared_graphs import PREPARED_GRAPHS
from sdrt_export.errors import BuildError

BUILDERS: Final[tuple[Builder, ...]] = (
    PREPARED_GRAPHS,
    HALF_GRAPHS,
    TENSORRT_PLANS,
    TENSORRT_RTX_PLANS,
    *INT8_GRAPHS,
)


def builder_of(target: Target) -> Builder:
    """The builder for the target; BuildError if the target runs a bundle without a build."""
    for builder in BUILDERS:
        if _what_runs(builder.target) == _what_runs(target):
            return builder
    *names, last = (str(builder.target) for builder in BUILDERS)
    raise BuildError(
        f"target '{target}' runs a bundle's ONNX as it is and needs no build: "
        f"'sdrt build' is for {', '.join(names)} and {last}"
    )


def _what_runs(target: Target) -> tuple[str, str | None]:
    """A target's backend, and its precision if that is chosen at run time."""
    return target.backend, backend_of(target).chosen_precision(target)
