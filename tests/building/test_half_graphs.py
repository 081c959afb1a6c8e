"""`sdrt build --target cuda`: half-precision graphs next to a bundle's own."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from sdrt.arrays import psnr_of
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.bundle.folder import Bundle
from sdrt.targets.built_graph import HalfGraph
from sdrt.targets.runnable import runnable
from sdrt_engines import SdrtError, Target, engine_from_onnx
from sdrt_export.building.probes import probe_inputs
from support.built_bundle import build_for
from support.command import run_sdrt
from support.damage import overwrite
from support.half_graphs import FP16, types_of
from support.hub_cache import hub_cache

pytestmark = pytest.mark.build

NETWORK = "text_encoder"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, without_torch: str) -> Path:
    """A copy of the demo bundle with one network built for CUDA."""
    copy = tmp_path_factory.mktemp("cuda") / "demo"
    shutil.copytree(DEMO_FOLDER, copy, ignore=shutil.ignore_patterns("engines"))
    given = ("build", copy, "--target", "cuda", "--component", NETWORK)
    outcome = run_sdrt(*given, folder=copy.parent, before=without_torch)
    assert outcome.code == 0, outcome.err
    assert outcome.out == (str(copy / f"engines/cuda/{NETWORK}/model.onnx"),)
    return copy


def test_cuda_runs_it_and_other_targets_do_not(root: Path) -> None:
    bundle = Bundle.open(root)
    component = bundle.component(NETWORK)
    found = runnable(root, component, Target("cuda"))
    model = f"engines/cuda/{NETWORK}/model.onnx"
    assert found.source.graph == root / model
    assert [file.path for file in found.files] == [model, f"{model}_data"]
    assert found.precision == "fp16"
    assert runnable(root, component, Target("cpu")).files == component.files
    unet = bundle.component("unet")  # not built
    assert runnable(root, unet, Target("cuda")).files == unet.files


def test_it_is_built_from_the_hubs_cache(root: Path, tmp_path: Path) -> None:
    """onnx refuses to read files with a second name, which is how links are read."""
    snapshot = hub_cache(DEMO_FOLDER, tmp_path / "hub")
    (built,) = build_for("cuda", snapshot, components=(NETWORK,))
    of_the_copy = (root / built.relative_to(snapshot)).with_name("model.onnx_data")
    assert built.with_name("model.onnx_data").read_bytes() == of_the_copy.read_bytes()


def test_it_is_half_and_gives_what_float32_gives(root: Path) -> None:
    bundle = Bundle.open(root)
    component = bundle.component(NETWORK)
    graph = HalfGraph.of(root, "cuda", component)
    assert graph is not None
    assert (graph.precision, graph.promoted) == ("fp16", ())
    assert FP16 in types_of(root / graph.model).values()
    feeds = probe_inputs(bundle, component.name)
    with engine_from_onnx(root / component.model, num_threads=1) as engine:
        expected = engine.run(feeds)
    with engine_from_onnx(root / graph.model, num_threads=1) as engine:
        assert engine.signature == component.signature
        got = engine.run(feeds)
    assert min(psnr_of(expected[name], got[name]) for name in expected) >= 40


def test_what_is_there_stays_and_what_was_spoilt_is_built_again(root: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(root, tmp_path / "demo"))
    lines: list[str] = []
    build = partial(build_for, "cuda", copy, components=(NETWORK,), report=lines.append)
    assert build() == []
    assert lines == [f"{NETWORK}: already built"]
    data = copy / f"engines/cuda/{NETWORK}/model.onnx_data"
    overwrite(data, data.read_bytes()[:-1])
    assert build() == [data.with_name("model.onnx")]
    assert data.stat().st_size == (root / data.relative_to(copy)).stat().st_size
    (data.parent / HalfGraph.RECORD_NAME).unlink()
    with pytest.raises(SdrtError, match=HalfGraph.RECORD_NAME):  # not a folder of sdrt's
        build()


@pytest.mark.parametrize(
    "options", [("--shapes", "64x64"), ("--batch", "2"), ("--chunks", "2"), ("--prune",)]
)
def test_options_of_plans_are_refused(root: Path, options: tuple[str, ...]) -> None:
    outcome = run_sdrt("build", root, "--target", "cuda", *options, folder=root.parent)
    assert outcome.code == 2
    assert "target cuda runs every shape with one graph" in outcome.err[0]
