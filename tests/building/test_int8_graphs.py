"""`sdrt build --precision int8`: a denoiser in int8 that ONNX Runtime and OpenVINO run."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import helper, numpy_helper

import sdrt
from sdrt.arrays import psnr_of
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.bundle.folder import Bundle
from sdrt.command_line.main import main
from sdrt.errors import RequestError
from sdrt.targets.built_graph import Int8Graph
from sdrt.targets.int8 import int8_graph_of
from sdrt.targets.resolving import resolve
from sdrt.targets.runnable import runnable
from sdrt.verification.verdict import verify_component
from sdrt_engines import Target, TargetError, engine_from_onnx
from sdrt_export.errors import BuildError
from sdrt_export.precision.typed_graph import write_typed
from sdrt_export.quantizing import recorded_calls, search
from sdrt_export.quantizing.int8_graph import int8_graph, opened, tensors_to_measure
from sdrt_export.quantizing.layer_errors import errors_of
from sdrt_export.quantizing.layers import layers_of
from sdrt_export.quantizing.ranges import ranges_of
from sdrt_export.quantizing.recorded_calls import Call
from support.built_bundle import build_for
from support.command import run_sdrt
from support.damage import overwrite

pytestmark = pytest.mark.build

TARGETS = ("cpu:int8", pytest.param("openvino:int8", marks=pytest.mark.needs("openvino")))
MODEL = "engines/int8/unet/model.onnx"
PROMPT = "a red circle on a blue background"
ENOUGH = 35.0  # dB, which the demo reaches with all layers in int8: no time goes into a search


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, without_torch: str) -> Path:
    """A copy of the demo bundle with its denoiser in int8."""
    copy = tmp_path_factory.mktemp("int8") / "demo"
    shutil.copytree(DEMO_FOLDER, copy, ignore=shutil.ignore_patterns("engines"))
    prompts = copy.parent / "prompts.txt"
    prompts.write_text(f"\n{PROMPT}\n")
    given = ("build", copy, "--precision", "int8", "--calibrate", prompts)
    no_search = f"from sdrt_export.quantizing import search; search.ENOUGH = {ENOUGH}\n"
    outcome = run_sdrt(*given, folder=copy.parent, before=without_torch + no_search)
    assert outcome.code == 0, outcome.err
    assert outcome.out == (str(copy / MODEL),)
    assert "unet: recording calls, prompt 1 of 1" in outcome.err
    return copy


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """A bundle to change."""
    return Path(shutil.copytree(root, tmp_path / "demo"))


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_in_int8_runs_it_and_the_other_networks_in_float32(
    target: str, root: Path
) -> None:
    bundle = Bundle.open(root)
    assert resolve(bundle, target).target == Target.parse(target)
    for component in bundle.manifest.components:
        found = runnable(root, component, Target.parse(target))
        if component.name == "unet":
            assert (found.source.graph, found.precision) == (root / MODEL, "int8")
            assert found.files[0].path == MODEL
        else:
            assert (found.files, found.precision) == (component.files, "fp32")
    plain = runnable(root, bundle.component("unet"), Target(Target.parse(target).backend))
    assert plain.precision == "fp32"


@pytest.mark.parametrize("target", TARGETS)
def test_it_passes_verification(target: str, root: Path) -> None:
    verdict = verify_component(Bundle.open(root), "unet", Target.parse(target), num_threads=1)
    assert verdict.passed
    assert (verdict.precision, verdict.psnr < 90) == ("int8", True)


def test_its_images_are_nearly_those_of_float32(root: Path) -> None:
    images = []
    for each in ("cpu", "cpu:int8"):
        with sdrt.Pipeline.open(root, each, num_threads=1) as pipe:
            result = pipe(PROMPT, seed=3, num_inference_steps=6)
            images.append(np.asarray(result.images[0], np.float64))
            assert result.engine == each
    assert psnr_of(*images) >= 30


def test_auto_never_takes_it(root: Path) -> None:
    assert resolve(Bundle.open(root)).target.precision is None


def test_the_record_says_what_stayed_float_and_how_close_the_rest_is(root: Path) -> None:
    bundle = Bundle.open(root)
    graph = int8_graph_of(bundle)
    assert graph is not None
    names = [layer.name for layer in layers_of(opened(root / "unet/model.onnx"))]
    assert graph.num_layers == len(names)
    assert {*graph.stayed_float} <= {*names}
    assert graph.psnr >= search.MIN_PSNR
    assert 0 <= graph.float_share <= search.MAX_FLOAT
    assert graph.num_calls == recorded_calls.MAX_STEPS
    others = {component.name for component in bundle.manifest.components} - {"unet"}
    assert {*graph.other_networks} == others


def test_onnxruntime_computes_every_quantized_layer_in_int8(root: Path, tmp_path: Path) -> None:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    onnxruntime.InferenceSession(root / MODEL, options, providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx", load_external_data=False).graph.node
    counts = Counter(node.op_type for node in nodes)
    graph = int8_graph_of(Bundle.open(root))
    assert graph is not None
    in_int8 = counts["QLinearConv"] + counts["MatMulIntegerToFloat"] + counts["QGemm"]
    assert in_int8 == graph.num_layers - len(graph.stayed_float)


def test_its_weights_take_a_byte_each(root: Path) -> None:
    graph, unet = int8_graph_of(Bundle.open(root)), Bundle.open(root).component("unet")
    assert graph is not None
    sizes = [sum(file.size for file in files) for files in (graph.files, unet.files)]
    assert sizes[0] < 0.65 * sizes[1]  # of float16, in which the demo is stored


def test_what_is_there_stays_unless_it_is_spoilt_or_calibrated_again(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "ENOUGH", ENOUGH)
    assert build_for("openvino:int8", copy) == []  # the same file for both targets
    data = copy / f"{MODEL}_data"
    good = data.read_bytes()
    overwrite(data, good[:-1])
    assert build_for("cpu:int8", copy, prompts=(PROMPT,)) == [copy / MODEL]
    assert data.read_bytes() == good


def test_a_graph_of_other_weights_does_not_run(copy: Path) -> None:
    record = copy / Path(MODEL).with_name(Int8Graph.RECORD_NAME)
    graph = int8_graph_of(Bundle.open(copy))
    assert graph is not None
    changed = record.read_text().replace(next(iter(graph.onnx.values())), "0" * 64)
    record.write_text(changed)
    with pytest.raises(TargetError, match=r"has no int8 denoiser of these weights: `sdrt build"):
        resolve(Bundle.open(copy), "cpu:int8")


# --- the search

WIDTH, DEPTH = 16, 8


def network(folder: Path, loud: Collection[int]) -> tuple[Path, list[Call]]:
    """Products, one after the other, and calls of them. The input of a loud one has a channel that
    is much larger than all others and that its weight ignores."""
    random = np.random.default_rng(0)
    weights = [random.standard_normal((WIDTH, WIDTH)).astype(np.float32) for _ in range(DEPTH)]
    feeds = {"x": random.random((8, WIDTH), np.float32)}
    for i in loud:
        before = weights[i - 1] if i else feeds["x"]
        before[:, 0], weights[i][0] = 1e4, 0
    nodes = [helper.make_node("Abs", ["x"], ["a0"])]
    for i in range(DEPTH):
        nodes.append(helper.make_node("MatMul", [f"a{i}", f"weight{i}"], [f"product{i}"]))
        nodes.append(helper.make_node("Abs", [f"product{i}"], [f"a{i + 1}"]))
    nodes.append(helper.make_node("Neg", [f"a{DEPTH}"], ["y"]))
    ends = [helper.make_tensor_value_info(name, 1, ["rows", WIDTH]) for name in "xy"]
    stored = [numpy_helper.from_array(weight, f"weight{i}") for i, weight in enumerate(weights)]
    graph = helper.make_graph(nodes, "products", ends[:1], ends[1:], stored)
    path = folder / "network.onnx"
    opset = helper.make_opsetid("", 17)
    onnx.save(helper.make_model(graph, opset_imports=[opset], ir_version=8), path)
    with engine_from_onnx(path, num_threads=1) as engine:
        return path, [Call(feeds, engine.run(feeds))]


@pytest.mark.parametrize("max_groups", [DEPTH, 3])
@pytest.mark.parametrize("loud", [(), (0,), (6,), (2, 5)])
def test_layers_that_int8_spoils_stay_float(
    loud: tuple[int, ...], max_groups: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search, "MAX_GROUPS", max_groups)
    monkeypatch.setattr(search, "ENOUGH", ENOUGH)
    path, calls = network(tmp_path, loud)
    folder = tmp_path / "int8"
    folder.mkdir()
    found = search.write_searched(path, folder, calls, lambda line: None)
    assert {*found.stayed_float} == {f"product{i}" for i in loud}
    assert (found.num_layers, found.float_share) == (DEPTH, len(loud) / DEPTH)
    assert found.psnr >= search.ENOUGH
    assert sorted(each.name for each in folder.iterdir()) == ["model.onnx", "model.onnx_data"]
    with engine_from_onnx(folder / "model.onnx", num_threads=1) as engine:
        got = engine.run(calls[0].feeds)
    assert psnr_of(calls[0].outputs["y"], got["y"]) == pytest.approx(found.psnr, abs=0.1)


def test_errors_of_layers_are_those_of_int8(tmp_path: Path) -> None:
    path, (call,) = network(tmp_path, loud=(3,))
    graph = opened(path)
    ranges = ranges_of(graph.model, tmp_path, tensors_to_measure(graph), [call.feeds])
    layers = [layer.name for layer in layers_of(graph)]
    nothing, loud, other = errors_of(path, ranges, [(), ("product3",), ("product6",)], call)
    assert nothing == 0
    assert loud > 100 * other
    typed = int8_graph(path, ranges, [name for name in layers if name != "product3"])
    folder = tmp_path / "int8"
    folder.mkdir()
    write_typed(typed, tmp_path, folder)
    with engine_from_onnx(folder / "model.onnx", num_threads=1) as engine:
        got = psnr_of(call.outputs["y"], engine.run(call.feeds)["y"])
    assert 10 ** (-got / 10) == pytest.approx(loud, rel=0.2)


def test_a_network_that_int8_spoils_is_refused(tmp_path: Path) -> None:
    path, calls = network(tmp_path, loud=(1, 3, 5))
    with pytest.raises(BuildError, match=r"expected 30 dB or more, even with 2 of 8 layers"):
        search.write_searched(path, tmp_path, calls, lambda line: None)


def test_a_bundle_that_needs_more_than_a_prompt_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise RequestError("image: this model changes an image: give one")

    monkeypatch.setattr(sdrt.Pipeline, "generation", refuse)
    with pytest.raises(BuildError, match="calibrated on text to image: image: this model changes"):
        build_for("cpu:int8", copy, prompts=(PROMPT,))


# --- what is refused


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "holds no prompt, expected one on each line"),
        (b" \n\n\t\n", "holds no prompt, expected one on each line"),
        (b"\xff\xfe", "not a text in UTF-8: save it as UTF-8"),
        (None, "cannot be read (No such file or directory): name a text file"),
    ],
)
def test_prompts_that_cannot_be_used_are_refused(
    content: bytes | None, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prompts.txt"
    if content is not None:
        path.write_bytes(content)
    assert main(["build", "demo", "--precision", "int8", "--calibrate", str(path)]) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--precision int8 --target tensorrt", "'tensorrt' does not compute in int8"),
        ("--precision int8 --target cuda", "use one of cpu:int8, openvino:int8"),
        ("--target openvino", "runs a bundle's ONNX as it is"),
        ("--precision fp16", "--target is missing"),
        ("--target cpu:int8 --precision fp16", "target cpu:int8 computes in int8: leave out"),
        ("--precision int8 --batch 2", "runs every shape with one graph"),
        ("--precision int8 --component vae_decoder", "only the denoiser, unet"),
        (f"--target cpu --calibrate {__file__}", "--calibrate is for --precision int8"),
    ],
)
def test_what_has_no_int8_is_refused(
    options: str, message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["build", "demo", *options.split()]) != 0
    assert message in capsys.readouterr().err


def test_a_bundle_without_a_denoiser_is_refused(
    copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Bundle, "find", lambda *_, **__: None)
    with pytest.raises(BuildError, match="no denoiser, which is what int8 is for"):
        build_for("cpu:int8", copy)
