"""Networks prepared for this machine's processor: the files that the target `cpu` opens fastest."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.bundle.optimum_folder import MODEL_NAME
from sdrt.bundle.unlinked import unlinked
from sdrt.targets.built_graph import PreparedGraph, prepared_graph_of
from sdrt.targets.plan_record import onnx_digests
from sdrt_engines import Target, engine_from_onnx
from sdrt_engines.onnx_weights import share_weights, write_widened
from sdrt_engines.onnxruntime_cpu import CPU
from sdrt_engines.prepared_onnx import prepare_onnx, preparer
from sdrt_export.building.builder import Builder, BuildOptions
from sdrt_export.building.graph_folder import (
    appearing_graph,
    missing_graphs,
    records_of_draft,
    write_record,
)
from sdrt_export.building.probes import probe_inputs
from sdrt_export.building.workplace import (
    build_alone,
    disk_full_as_build_error,
    require_room,
)
from sdrt_export.errors import BuildError
from sdrt_export.options import Report

# Bytes on disk per byte of float32 weights: 1.32 for Stable Diffusion 1.5's UNet.
_GROWTH = 1.4


def build_prepared_graphs(
    bundle: Bundle, target: Target, options: BuildOptions, report: Report
) -> list[Path]:
    """Prepares the bundle's networks for onnxruntime on this processor.

    Returns the new graphs. A graph of the same network for this machine stays; one for another
    machine is replaced. BuildError, and the errors of a broken bundle.
    """
    require_preparer()
    with build_alone(bundle.root, CPU.name, report), disk_full_as_build_error(bundle.root):
        missing = missing_graphs(
            bundle,
            options.components,
            lambda component: prepared_graph_of(bundle.root, CPU.name, component),
            report,
        )
        _require_room(bundle, missing)
        return [_build(bundle, component, report) for component in missing]


def require_preparer() -> dict[str, str]:
    """The processor and library to prepare for; BuildError if the system does not report them."""
    found = preparer()
    if found is None:
        raise BuildError(
            "target cpu: this system does not report its processor's features (Linux does), so "
            "nothing can be prepared: run the bundle without a build"
        )
    return found


def _require_room(bundle: Bundle, missing: Sequence[Component]) -> None:
    """Room for the prepared graphs and, for one network at a time, for its weights in float32."""
    weights = [_bytes_in_float32(component) for component in missing]
    needed = _GROWTH * sum(weights) + max(weights, default=0)
    names = ", ".join(component.name for component in missing)
    require_room(bundle.root, f"preparing {names} needs", needed)


def _bytes_in_float32(component: Component) -> int:
    stored = sum(file.size for file in component.files)
    return 2 * stored if component.precision == "float16" else stored


def _build(bundle: Bundle, component: Component, report: Report) -> Path:
    with appearing_graph(bundle, CPU.name, component, PreparedGraph) as draft:
        report(f"{component.name}: preparing")
        with _network(bundle, component, draft) as network:
            prepare_onnx(network, draft / MODEL_NAME)
            _share_weights(bundle, component, draft)
            _require_same(bundle, component, network, draft / MODEL_NAME)
        graph = PreparedGraph(
            onnx=onnx_digests(bundle.root, component),
            files=records_of_draft(draft, CPU.name, component),
            preparer=require_preparer(),
        )
        write_record(draft, graph)
    return bundle.root / graph.model


@contextmanager
def _network(bundle: Bundle, component: Component, draft: Path) -> Iterator[Path]:
    """The network's ONNX file, with its weights in float32: ONNX Runtime, which would make them so
    all at once, then needs half the memory."""
    with unlinked(bundle.root, component.files) as root:
        network = root / component.model
        if component.precision != "float16":
            yield network
            return
        folder = draft / "float32"
        folder.mkdir()
        write_widened(network, folder / MODEL_NAME)
        yield folder / MODEL_NAME
        shutil.rmtree(folder)


def _share_weights(bundle: Bundle, component: Component, draft: Path) -> None:
    """Keeps weights that another prepared graph has, too, once: variants of a denoiser differ in
    their inputs only."""
    files = {file.path for file in component.files}
    for other in bundle.manifest.components:
        if other is component or files.isdisjoint(file.path for file in other.files):
            continue
        graph = prepared_graph_of(bundle.root, CPU.name, other)
        if graph is not None and len(graph.files) == 2:
            model, data = (bundle.root / file.path for file in graph.files)
            if share_weights(draft / MODEL_NAME, draft / data.name, model, data):
                return


def _require_same(bundle: Bundle, component: Component, network: Path, prepared: Path) -> None:
    """BuildError unless the prepared network has the same signature and the same outputs."""
    feeds = probe_inputs(bundle, component.name)
    with engine_from_onnx(network, fused=True) as engine:
        expected = engine.run(feeds)
    with engine_from_onnx(prepared, prepared=True) as engine:
        same = engine.signature == component.signature
        got = engine.run(feeds) if same else {}
    if not same or not all(np.array_equal(expected[name], got[name]) for name in expected):
        raise BuildError(
            f"{component.name}: onnxruntime changed the network while preparing it: leave target "
            "cpu out, and report this"
        )


PREPARED_GRAPHS = Builder(
    backend=CPU,
    takes=frozenset({"components"}),
    require=lambda target: require_preparer(),
    build=build_prepared_graphs,
)
