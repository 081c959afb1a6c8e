from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import Component, FileRecord
from sdrt.targets.built_graph import HalfGraph
from sdrt.targets.runnable import Runnable, runnable
from sdrt_engines import BACKENDS, Target
from support.built_records import ingredients_of, write_half_graph, write_plan
from support.bundle_folder import write_bundle

CUDA, RTX = Target("cuda"), Target("tensorrt-rtx")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


@pytest.fixture
def unet(root: Path) -> Component:
    return Bundle.open(root).component("unet")


def graph_of(found: Runnable) -> tuple[str, Sequence[FileRecord]]:
    """The graph's path in its bundle, and the files that are verified."""
    return found.source.graph.relative_to(found.root).as_posix(), found.files


@pytest.mark.parametrize("backend", [b.name for b in BACKENDS if b.runs != "plans"])
def test_without_a_graph_of_its_own_a_backend_runs_the_network(
    backend: str, root: Path, unet: Component
) -> None:
    found = runnable(root, unet, Target(backend))
    assert graph_of(found) == ("unet/model.onnx", unet.files)
    assert found.source.own_graph is None
    assert found.precision == "fp32"


def test_a_backend_runs_the_graph_that_was_built_for_it(root: Path, unet: Component) -> None:
    graph = write_half_graph(root, unet)
    assert graph_of(runnable(root, unet, CUDA)) == ("engines/cuda/unet/model.onnx", graph.files)
    for other in ("cpu", "openvino"):
        assert graph_of(runnable(root, unet, Target(other))) == ("unet/model.onnx", unet.files)


def test_a_graph_without_a_record_does_not_run(root: Path, unet: Component) -> None:
    graph = write_half_graph(root, unet)
    record = root / Path(graph.model).with_name(HalfGraph.RECORD_NAME)
    for broken in (
        "{}",
        replace(graph, onnx={"unet/model.onnx": "0" * 64}).to_json(),  # of another network
        replace(graph, precision="fp99").to_json(),
    ):
        record.write_text(broken)
        assert graph_of(runnable(root, unet, CUDA)) == ("unet/model.onnx", unet.files)
    record.unlink()
    assert graph_of(runnable(root, unet, CUDA)) == ("unet/model.onnx", unet.files)


@pytest.mark.parametrize("backend", ["cpu", "openvino"])
def test_a_half_graph_is_no_use_to_other_kinds_of_backends(
    backend: str, root: Path, unet: Component
) -> None:
    write_half_graph(root, unet, backend=backend)
    assert graph_of(runnable(root, unet, Target(backend))) == ("unet/model.onnx", unet.files)


# --- the precision is read


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_the_precision_of_a_graph_is_its_record_s(
    precision: str, root: Path, unet: Component
) -> None:
    write_half_graph(root, unet, precision)
    assert runnable(root, unet, CUDA).precision == precision


@pytest.mark.parametrize("precision", ["fp16", "bf16", "fp32"])
def test_the_precision_of_a_plan_is_its_record_s(
    precision: str, root: Path, unet: Component
) -> None:
    write_plan(root, ingredients_of(root, unet, precision))
    assert runnable(root, unet, RTX).precision == precision


def test_the_precision_of_several_plans_is_the_lowest(root: Path, unet: Component) -> None:
    for precision in ("fp32", "fp16"):
        write_plan(root, ingredients_of(root, unet, precision))
    other = replace(ingredients_of(root, unet, "bf16"), onnx={"unet/model.onnx": "0" * 64})
    write_plan(root, other)  # never runs
    assert runnable(root, unet, RTX).precision == "fp16"


@pytest.mark.parametrize(("target", "precision"), [("openvino", "fp32"), ("openvino:bf16", "bf16")])
def test_the_precision_may_be_the_target_s(
    target: str, precision: str, root: Path, unet: Component
) -> None:
    assert runnable(root, unet, Target.parse(target)).precision == precision


def test_plans_verify_themselves(root: Path, unet: Component) -> None:
    path = write_plan(root, ingredients_of(root, unet)).with_suffix(".plan")
    found = runnable(root, unet, RTX)
    assert found.files == ()
    (plan,) = found.source.plans
    assert (plan.path, plan.fault, plan.damage()) == (path, None, None)
    path.write_bytes(b"plaN")
    assert "the file has changed" in str(plan.damage())
