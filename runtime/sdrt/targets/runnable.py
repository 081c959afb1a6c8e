"""The files that a target runs of a component (network, own graph or plans), and their precision.

The precision is read from the target if it is chosen at run time, else from the record of the
build. A network as exported computes in float32, whatever type its weights are stored in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from sdrt.bundle.file_records import verified_meanwhile
from sdrt.bundle.manifest import Component, FileRecord
from sdrt.bundle.unlinked import unlinked
from sdrt.targets.built_graph import HalfGraph, Int8Graph, PreparedGraph, prepared_graph_of
from sdrt.targets.plan_record import PRECISIONS
from sdrt.targets.plans import plan_files
from sdrt_engines import Backend, Engine, Source, Target, backend_of, open_source
from sdrt_engines.backend import INT8

NETWORK_PRECISION = "fp32"


@dataclass(frozen=True)
class Runnable:
    """A component's files for one target."""

    root: Path  # the bundle
    target: Target
    source: Source
    files: tuple[FileRecord, ...]  # verified; empty for plans, which have records of their own

    @property
    def precision(self) -> str:
        return self.source.precision

    @property
    def prepared(self) -> bool:
        """True if the graph was built for this target alone."""
        return self.source.own_graph is not None and self.precision != INT8

    def open(self, num_threads: int | None = None) -> Engine:
        """The component, ready to run; its files are verified."""
        with verified_meanwhile(self.root, self.files), unlinked(self.root, self.files) as root:
            return open_source(self._source_in(root), self.target, num_threads)

    def _source_in(self, root: Path) -> Source:
        """The source with its files in another folder."""
        own = self.source.own_graph
        return replace(
            self.source,
            network=root / self.source.network.relative_to(self.root),
            own_graph=None if own is None else root / own.relative_to(self.root),
        )


def runnable(root: Path, component: Component, target: Target) -> Runnable:
    """The files that `target` runs of a component of the bundle at `root`."""
    backend = backend_of(target)
    source = Source(
        name=component.name,
        signature=component.signature,
        network=root / component.model,
        precision=_precision(root, component, target),
    )
    if backend.runs == "plans":
        return Runnable(root, target, _with_plans(source, root, component, backend), ())
    graph = _own_graph(root, component, backend, source.precision)
    if graph is None:
        return Runnable(root, target, source, component.files)
    source = replace(source, own_graph=root / graph.model, precision=graph.precision)
    return Runnable(root, target, source, graph.files)


def _precision(root: Path, component: Component, target: Target) -> str:
    """The precision that the target chooses; float32 for networks that were not built in int8."""
    chosen = backend_of(target).chosen_precision(target) or NETWORK_PRECISION
    if chosen == INT8 and Int8Graph.of(root, INT8, component) is None:
        return NETWORK_PRECISION
    return chosen


def _own_graph(
    root: Path, component: Component, backend: Backend, precision: str
) -> HalfGraph | Int8Graph | PreparedGraph | None:
    if precision == INT8:
        return Int8Graph.of(root, INT8, component)
    if backend.runs == "half graph":
        return HalfGraph.of(root, backend.name, component)
    if backend.runs == "prepared graph":
        return prepared_graph_of(root, backend.name, component)
    return None


def _with_plans(source: Source, root: Path, component: Component, backend: Backend) -> Source:
    """Adds the plans. Any of them may run, so the precision is the lowest of theirs."""
    plans = plan_files(root, component, backend.name)
    precisions = [plan.precision for plan in plans if plan.fault is None]
    return replace(
        source,
        plans=plans,
        precision=min(precisions, key=PRECISIONS.index, default=NETWORK_PRECISION),
        remedy=f"`sdrt build {root} --target {backend.name}` builds one",
    )
