"""Writes the files of a build into a bundle, with invented contents."""

from __future__ import annotations

from pathlib import Path

from sdrt.bundle.file_records import record_file
from sdrt.bundle.manifest import Component
from sdrt.targets.built_graph import HalfGraph, graph_folder
from sdrt.targets.plan_record import (
    Ingredients,
    PlanRecord,
    onnx_digests,
    plan_path,
    write_record,
)
from sdrt_engines.shape_profiles import Profile, Range

PROFILE = Profile({"sample": (Range.of(2), Range.of(4), Range(8, 8, 16), Range(8, 12, 16))})


def write_half_graph(
    root: Path,
    component: Component,
    precision: str = "fp16",
    backend: str = "cuda",
    psnr: float | None = None,
) -> HalfGraph:
    """A backend's own graph, with its record."""
    path = root / graph_folder(backend, component.name) / "model.onnx"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"half")
    graph = HalfGraph(
        onnx=onnx_digests(root, component),
        files=(record_file(root, path),),
        precision=precision,
        promoted=(),
        policy=1,
        fusions=1,
        psnr=psnr,
    )
    path.with_name(HalfGraph.RECORD_NAME).write_text(graph.to_json())
    return graph


def write_plan(
    root: Path,
    ingredients: Ingredients,
    created: str = "2026-01-01",
    backend: str = "tensorrt-rtx",
    psnr: float | None = 60.5,
) -> Path:
    """A plan, with its record; the record's path."""
    path = root / plan_path(backend, ingredients)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"plan")
    return write_record(root, PlanRecord(ingredients, record_file(root, path), psnr, created))


def ingredients_of(root: Path, component: Component, precision: str = "fp16") -> Ingredients:
    """The ingredients of a plan of the component, for one version and one GPU."""
    return Ingredients(
        component=component.name,
        onnx=onnx_digests(root, component),
        precision=precision,
        promoted=(),
        policy=1,
        profiles=(PROFILE,),
        flags={"strongly_typed": True},
        library="tensorrt_rtx",
        library_version="1.7.1.116",
        architectures=("sm89",),
    )
