"""Denoisers in int8, for ONNX Runtime and OpenVINO: one graph that both run."""

from __future__ import annotations

from pathlib import Path

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component
from sdrt.bundle.unlinked import unlinked
from sdrt.targets.built_graph import Int8Graph
from sdrt.targets.int8 import note_on_processor
from sdrt.targets.plan_record import onnx_digests
from sdrt_engines import Backend, Target
from sdrt_engines.backend import INT8
from sdrt_engines.onnxruntime_cpu import CPU
from sdrt_engines.openvino_cpu import OPENVINO
from sdrt_export.building.builder import Builder, BuildOptions
from sdrt_export.building.graph_folder import (
    appearing_graph,
    missing_graphs,
    records_of_draft,
    write_record,
)
from sdrt_export.building.workplace import (
    build_alone,
    disk_full_as_build_error,
    require_room,
)
from sdrt_export.errors import BuildError, require_libraries
from sdrt_export.options import Report
from sdrt_export.quantizing.prompts import PROMPTS

INT8_VERSION = 2  # of the passes in `quantizing`


def build_int8_graphs(
    bundle: Bundle, target: Target, options: BuildOptions, report: Report
) -> list[Path]:
    """Builds the bundle's denoiser in int8; its other networks stay as they are.

    Returns the new graph, if any. A graph of the same network stays, unless prompts are given.
    BuildError, and the errors of a broken bundle.
    """
    _require_onnx()
    denoiser = _denoiser_of(bundle, options)
    with build_alone(bundle.root, INT8, report), disk_full_as_build_error(bundle.root):
        missing = [denoiser]
        if not options.prompts:
            missing = missing_graphs(
                bundle, [denoiser.name], lambda component: _graph_of(bundle, component), report
            )
        if not missing:
            return []
        if (slow := note_on_processor(target)) is not None:
            report(str(slow))
        _require_room(bundle, denoiser)
        return [_build(bundle, denoiser, options.prompts or PROMPTS, report)]


def _require_onnx() -> None:
    require_libraries(["onnx"], BuildError, "'sdrt build --precision int8'", "onnx")


def _denoiser_of(bundle: Bundle, options: BuildOptions) -> Component:
    denoiser = bundle.find("denoiser")
    if denoiser is None:
        raise BuildError(
            f"{bundle.root}: no denoiser, which is what int8 is for: export a checkpoint with one"
        )
    if options.components not in ((), (denoiser.name,)):
        raise BuildError(
            f"--component {', '.join(options.components)}: only the denoiser, {denoiser.name}, "
            "computes in int8: leave --component out"
        )
    return denoiser


def _graph_of(bundle: Bundle, component: Component) -> Int8Graph | None:
    graph = Int8Graph.of(bundle.root, INT8, component)
    return graph if graph is not None and graph.version == INT8_VERSION else None


def _require_room(bundle: Bundle, denoiser: Component) -> None:
    """Room for the graph and those that are tried: each weight in int8 and as it is stored, and
    again as the graph has it."""
    stored = sum(file.size for file in denoiser.files)
    require_room(bundle.root, f"{denoiser.name} in int8 needs", 2.5 * stored)


def _build(bundle: Bundle, denoiser: Component, prompts: tuple[str, ...], report: Report) -> Path:
    from sdrt_export.quantizing.recorded_calls import recorded_calls
    from sdrt_export.quantizing.search import write_searched

    with (
        appearing_graph(bundle, INT8, denoiser, Int8Graph) as draft,
        unlinked(bundle.root, denoiser.files) as root,
    ):
        calls = recorded_calls(bundle, denoiser.name, prompts, report)
        found = write_searched(
            root / denoiser.model, draft, calls, lambda line: report(f"{denoiser.name}: {line}")
        )
        others = (each.name for each in bundle.manifest.components if each is not denoiser)
        graph = Int8Graph(
            onnx=onnx_digests(bundle.root, denoiser),
            files=records_of_draft(draft, INT8, denoiser),
            stayed_float=found.stayed_float,
            num_layers=found.num_layers,
            float_share=found.float_share,
            psnr=found.psnr,
            num_calls=len(calls),
            other_networks=tuple(others),
            version=INT8_VERSION,
        )
        write_record(draft, graph)
    report(
        f"{denoiser.name}: {found.num_layers - len(found.stayed_float)} of {found.num_layers} "
        f"layers in int8, {1 - found.float_share:.0%} of the work, {found.psnr:.0f} dB from "
        "float32; other networks stay float32"
    )
    return bundle.root / graph.model


def _builder(backend: Backend) -> Builder:
    return Builder(
        backend=backend,
        precision=INT8,
        takes=frozenset({"components", "prompts"}),
        require=lambda target: _require_onnx(),
        build=build_int8_graphs,
    )


INT8_GRAPHS = tuple(map(_builder, (CPU, OPENVINO)))
