"""The precision pass on every network of the demo bundle, executed on the CPU."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from sdrt.arrays import psnr_of
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.bundle.folder import Bundle
from sdrt_engines import Array, engine_from_onnx
from sdrt_export.building.probes import probe_inputs
from sdrt_export.precision.check import write_half, write_known
from sdrt_export.precision.policy import Rules
from sdrt_export.precision.record import known_precision
from support.built_bundle import Built
from support.half_graphs import BF16, FP16, operators_of, types_of

pytestmark = pytest.mark.build

DEMO = Bundle.open("demo")
COMPONENTS = [component.name for component in DEMO.manifest.components]


def half_of(built: Built, name: str, folder: Path) -> Path:
    """The fp16 graph that the plan was built from."""
    component = built.bundle.component(name)
    report = known_precision(built.bundle, component, "fp16")
    assert report is not None
    write_known(built.root / component.model, folder, report, Rules())
    return folder / "model.onnx"


def outputs_of(path: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    with engine_from_onnx(path, num_threads=1) as engine:
        return engine.run(feeds)


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_half_graph_gives_what_float32_gives(built: Built, tmp_path: Path, name: str) -> None:
    half, feeds = half_of(built, name, tmp_path), probe_inputs(DEMO, name)
    expected = outputs_of(DEMO_FOLDER / DEMO.component(name).model, feeds)
    got = outputs_of(half, feeds)
    for output, array in expected.items():
        assert psnr_of(array, got[output]) >= 30, output


@pytest.mark.parametrize("name", COMPONENTS)
def test_the_half_graph_is_well_formed_and_has_few_casts(
    built: Built, tmp_path: Path, name: str
) -> None:
    half = half_of(built, name, tmp_path)
    types, operators = types_of(half), operators_of(half)
    signature = DEMO.component(name).signature
    num_norms = operators.count("InstanceNormalization")
    borders = len(signature.inputs) + len(signature.outputs)
    # two for each norm in float32, the borders, and a few for timesteps and masks
    assert operators.count("Cast") <= 2 * num_norms + borders + 12
    assert list(types.values()).count(FP16) > list(types.values()).count(BF16) == 0


def test_an_overflow_in_the_demo_s_vae_is_promoted(tmp_path: Path) -> None:
    component = DEMO.component("vae_decoder")
    shutil.copytree(DEMO_FOLDER / "vae_decoder", tmp_path / "old")
    path = tmp_path / "old" / "model.onnx"
    model = onnx.load(path, load_external_data=False)
    first = next(node for node in model.graph.node if node.op_type == "Conv")
    place = list(model.graph.node).index(first)
    loud, first.output[0] = first.output[0], "quiet"
    model.graph.node.insert(place + 1, helper.make_node("Mul", ["quiet", "factor"], [loud]))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1e6], np.float32), "factor"))
    path.write_bytes(model.SerializeToString())

    (tmp_path / "new").mkdir()
    feeds = probe_inputs(DEMO, component.name)
    report = write_half(path, tmp_path / "new", "fp16", Rules(), [feeds])
    assert loud in report.promoted
    got = outputs_of(tmp_path / "new" / "model.onnx", feeds)["sample"]
    assert psnr_of(outputs_of(path, feeds)["sample"], got) >= 30


def test_polygraphy_s_comparator_agrees(built: Built, tmp_path: Path) -> None:
    from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
    from polygraphy.comparator import Comparator, SimpleCompareFunc
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    component = DEMO.component("vae_decoder")
    paths = DEMO_FOLDER / component.model, half_of(built, component.name, tmp_path)
    feeds = probe_inputs(DEMO, component.name)
    runners = [OnnxrtRunner(SessionFromOnnx(str(path))) for path in paths]
    results = Comparator.run(runners, data_loader=[feeds])
    compare = SimpleCompareFunc(atol=1e-9, rtol=0, check_error_stat="max")
    ((comparison,),) = (each.values() for each in Comparator.compare_accuracy(results, compare))
    expected, got = (outputs_of(path, feeds)["sample"] for path in paths)
    ours = float(np.abs(expected - got).max())
    assert comparison[0]["sample"].max_absdiff == pytest.approx(ours, rel=1e-5)
    assert ours > 0
