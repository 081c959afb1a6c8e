from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest

from sdrt.families.family import Role
from sdrt_engines import Array, engine_from_onnx
from sdrt_export.errors import BuildError
from sdrt_export.precision.check import (
    HEADROOM,
    MIN_PSNR,
    PrecisionReport,
    psnr_within,
    write_half,
    write_known,
)
from sdrt_export.precision.float_graph import float_graph_from_model
from sdrt_export.precision.policy import HalfType, Rules, rules_for
from sdrt_export.precision.typed_graph import half_from_float, kept_by_rules, load_for, write_typed
from support.half_graphs import (
    BF16,
    FLOAT,
    FP16,
    node,
    operators_of,
    types_of,
    write_network,
)

pytestmark = pytest.mark.build

RANDOM = np.random.default_rng(0)
X = {"x": RANDOM.standard_normal((3, 4)).astype(np.float32)}
W = RANDOM.standard_normal((4, 4)).astype(np.float32)
PLAIN = Rules()


def typed(path: Path, folder: Path, rules: Rules = PLAIN, half: HalfType = "fp16") -> Path:
    """The pass alone, without running anything."""
    graph = float_graph_from_model(load_for(path, half))
    folder.mkdir()
    return write_typed(
        half_from_float(graph, half, kept_by_rules(graph, rules)), path.parent, folder
    )


@pytest.mark.parametrize(("half", "element"), [("fp16", FP16), ("bf16", BF16)])
def test_all_work_and_all_weights_are_half(tmp_path: Path, half: HalfType, element: int) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Add", "a b", "y")]
    path = typed(
        write_network(tmp_path / "old", nodes, {"w": W, "b": W[0]}), tmp_path / "new", half=half
    )
    types = types_of(path)
    assert types == {
        "x": FLOAT,
        f"x.{half}": element,
        f"w.{half}": element,
        f"b.{half}": element,
        "a": element,
        f"y.{half}": element,
        "y": FLOAT,
    }
    assert operators_of(path) == ["Cast", "MatMul", "Add", "Cast"]


def test_the_signature_stays_what_it_is(tmp_path: Path) -> None:
    nodes = [node("MatMul", "x w", "a"), node("Identity", "a", "y")]
    old = write_network(tmp_path / "old", nodes, {"w": W}, outputs=("a", "y"))
    with (
        engine_from_onnx(old, num_threads=1) as before,
        engine_from_onnx(typed(old, tmp_path / "new"), num_threads=1) as after,
    ):
        assert after.signature.inputs == before.signature.inputs
        assert [s.dtype for s in after.signature.outputs] == [np.float32, np.float32]
        outputs, expected = after.run(X), before.run(X)
    for name in ("a", "y"):
        np.testing.assert_allclose(outputs[name], expected[name], atol=1e-2)


def test_weights_stored_in_float16_lose_their_casts(tmp_path: Path) -> None:
    nodes = [
        node("Cast", "w.stored", "w", to=FLOAT),
        node("MatMul", "x w", "a"),
        node("Add", "a b", "y"),
    ]
    weights = {"w.stored": W.astype(np.float16), "b": W[0]}
    path = typed(write_network(tmp_path / "old", nodes, weights), tmp_path / "new")
    assert operators_of(path) == ["Cast", "MatMul", "Add", "Cast"]


def test_statistics_of_norms_stay_float32(tmp_path: Path) -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("InstanceNormalization", "a scale bias", "b"),
        node("Conv", "b w", "y"),
    ]
    weights = {
        "w": RANDOM.standard_normal((4, 4, 1, 1)).astype(np.float32),
        "scale": np.ones(4, np.float32),
        "bias": np.zeros(4, np.float32),
    }
    old = write_network(tmp_path / "old", nodes, weights, ("batch", 4, 8, 8))
    path = typed(old, tmp_path / "new")
    types = types_of(path)
    assert (types["a"], types["b"]) == (FP16, FLOAT)
    assert (types["scale.fp32"], types["w.fp16"]) == (FLOAT, FP16)
    casts_and_work = "Cast Conv Cast InstanceNormalization Cast Conv Cast"
    assert operators_of(path) == casts_and_work.split()


def test_what_leads_to_sines_stays_float32(tmp_path: Path) -> None:
    nodes = [
        node("Mul", "x frequency", "angle"),
        node("Sin", "angle", "sine"),
        node("Cos", "angle", "cosine"),
        node("Concat", "sine cosine", "both", axis=1),
        node("MatMul", "both w", "y"),
    ]
    weights = {"frequency": W[0], "w": np.concatenate([W, W])}
    types = types_of(typed(write_network(tmp_path / "old", nodes, weights), tmp_path / "new"))
    assert types["angle"] == types["sine"] == types["cosine"] == FLOAT
    assert types["w.fp16"] == FP16


def test_between_float32_neighbours_is_no_cast(tmp_path: Path) -> None:
    nodes = [
        node("Sqrt", "x", "a"),
        node("Reshape", "a shape", "b"),
        node("Add", "b one", "c"),
        node("Transpose", "c", "d", perm=[1, 0]),
        node("Sqrt", "d", "y"),
    ]
    weights: dict[str, Array] = {"shape": np.array([4, -1]), "one": np.array([1], np.float32)}
    path = typed(write_network(tmp_path / "old", nodes, weights), tmp_path / "new")
    assert "Cast" not in operators_of(path)


def test_a_cast_is_shared(tmp_path: Path) -> None:
    nodes = [
        node("Sqrt", "x", "a"),
        node("MatMul", "a w", "b"),
        node("MatMul", "a w", "c"),
        node("Add", "b c", "y"),
    ]
    path = typed(write_network(tmp_path / "old", nodes, {"w": W}), tmp_path / "new")
    assert operators_of(path).count("Cast") == 2  # of a, and of y


def test_places_that_are_float32_for_ever_stay_so(tmp_path: Path) -> None:
    nodes = [node("Resize", "x  scales", "a"), node("Relu", "a", "y")]
    nodes[0].input[:] = ["x", "", "scales"]
    weights = {"scales": np.array([1, 1, 2, 2], np.float32)}
    old = write_network(tmp_path / "old", nodes, weights, ("batch", 4, 8, 8))
    types = types_of(typed(old, tmp_path / "new"))
    assert (types["a"], types["scales.fp32"]) == (FP16, FLOAT)


def attention(tmp_path: Path) -> Path:
    nodes = [
        node("MatMul", "x w", "queries"),
        node("Transpose", "queries", "keys", perm=[1, 0]),
        node("MatMul", "queries keys", "products"),
        node("Mul", "products scale", "scores"),
        node("Softmax", "scores", "weights"),
        node("MatMul", "weights queries", "y"),
    ]
    return write_network(tmp_path / "old", nodes, {"w": W, "scale": np.array([0.5], np.float32)})


@pytest.mark.parametrize(
    ("family", "role", "element"),
    [
        ("stable-diffusion-1", "denoiser", FP16),
        ("stable-diffusion-2", "denoiser", FLOAT),
        ("stable-diffusion-2", "controlnet", FLOAT),
        ("stable-diffusion-2", "text encoder", FP16),
    ],
)
def test_attention_of_sd2_scores_in_float32(
    tmp_path: Path, family: str, role: Role, element: int
) -> None:
    rules = rules_for(family, role, {})
    types = types_of(typed(attention(tmp_path), tmp_path / "new", rules))
    assert types["products"] == types["scores"] == types["weights"] == element
    assert types["queries"] == FP16


@pytest.mark.parametrize("role", ["vae decoder", "vae encoder"])
def test_the_vae_of_sdxl_stays_float32(tmp_path: Path, role: Role) -> None:
    rules = rules_for("stable-diffusion-xl", role, {})
    report = write_half(attention(tmp_path), tmp_path, "fp16", rules, [X])
    assert (report.precision, report.reason) == ("fp32", rules.everything)
    assert set(types_of(tmp_path / "model.onnx").values()) == {FLOAT}


@pytest.mark.parametrize("role", ["vae decoder", "vae encoder"])
def test_a_tiny_vae_computes_in_half_precision(role: Role) -> None:
    config = {"_class_name": "AutoencoderTiny"}
    assert rules_for("stable-diffusion-xl", role, config) == PLAIN


def test_what_overflows_is_promoted_and_ends_finite(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x w", "a"),
        node("Mul", "a large", "b"),  # far over 65504
        node("Div", "b large", "c"),
        node("MatMul", "c w", "y"),
    ]
    old = write_network(tmp_path / "old", nodes, {"w": W, "large": np.array([1e5], np.float32)})
    new = tmp_path / "new"
    new.mkdir()
    report = write_half(old, new, "fp16", PLAIN, [X])
    assert report.precision == "fp16"
    assert report.promoted == ("b", "c")
    assert report.psnr > 50
    types = types_of(new / "model.onnx")
    assert types["large.fp32"] == types["b"] == FLOAT
    assert types["a"] == FP16
    with engine_from_onnx(new / "model.onnx", num_threads=1) as engine:
        assert np.isfinite(engine.run(X)["y"]).all()


def test_what_real_inputs_may_overflow_is_promoted(tmp_path: Path) -> None:
    nodes = [
        node("Mul", "x large", "a"),
        node("Div", "a large", "b"),
        node("Mul", "b less", "c"),
        node("Div", "c less", "y"),
    ]
    largest = np.abs(X["x"]).max()
    weights = {
        "large": np.array([1.1 * 65504 / HEADROOM / largest], np.float32),
        "less": np.array([0.9 * 65504 / HEADROOM / largest], np.float32),
    }
    old = write_network(tmp_path / "old", nodes, weights)
    assert write_half(old, tmp_path, "fp16", PLAIN, [X]).promoted == ("a", "b")


def test_bfloat16_holds_what_float16_does_not(tmp_path: Path) -> None:
    nodes = [node("Mul", "x large", "a"), node("Div", "a large", "y")]
    old = write_network(tmp_path / "old", nodes, {"large": np.array([1e6], np.float32)})
    report = write_half(old, tmp_path, "bf16", PLAIN, [X])
    assert (report.precision, report.promoted) == ("bf16", ())


def test_where_the_error_is_born_is_promoted(tmp_path: Path) -> None:
    nodes = [
        node("Add", "x shift", "a"),  # float16 has steps of 4 there
        node("Sub", "a shift", "b"),
        node("MatMul", "b w", "y"),
    ]
    old = write_network(tmp_path / "old", nodes, {"w": W, "shift": np.array([8000], np.float32)})
    new = tmp_path / "new"
    new.mkdir()
    report = write_half(old, new, "fp16", PLAIN, [X])
    assert report.precision == "fp16"
    assert set(report.promoted) <= {"a", "b"}
    assert report.promoted
    assert report.psnr >= MIN_PSNR


def test_where_promoting_does_not_help_all_is_float32(tmp_path: Path) -> None:
    names = ["x", *"abcdefg", "y"]  # each is the rounding of the one before
    nodes = [
        node("Sub" if place % 2 else "Add", f"{before} shift", after)
        for place, (before, after) in enumerate(pairwise(names))
    ]
    old = write_network(tmp_path / "old", nodes, {"shift": np.array([8000], np.float32)})
    report = write_half(old, tmp_path, "fp16", PLAIN, [X])
    reason = "in fp16 its outputs are below 30 dB"
    assert report == PrecisionReport("fp32", (), np.inf, reason)
    assert set(types_of(tmp_path / "model.onnx").values()) == {FLOAT}


def test_masks_need_no_promotion(tmp_path: Path) -> None:
    mask = np.triu(np.full((4, 4), np.finfo(np.float32).min), 1)
    nodes = [
        node("MatMul", "x w", "scores"),
        node("Add", "scores mask", "masked"),
        node("Softmax", "masked", "y"),
    ]
    old = write_network(tmp_path / "old", nodes, {"w": W, "mask": mask}, (4, 4))
    report = write_half(old, tmp_path, "fp16", PLAIN, [{"x": W}])
    assert report.promoted == ()
    assert report.precision == "fp16"


def test_a_report_is_enough_to_write_the_same(tmp_path: Path) -> None:
    nodes = [node("Mul", "x large", "a"), node("Div", "a large", "y")]
    old = write_network(tmp_path / "old", nodes, {"large": np.array([1e6], np.float32)})
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    report = write_half(old, first, "fp16", PLAIN, [X])
    write_known(old, second, report, PLAIN)
    for name in ("model.onnx", "model.onnx_data"):
        assert (first / name).read_bytes() == (second / name).read_bytes()


def test_large_weights_are_stored_next_to_the_model(tmp_path: Path) -> None:
    weight = RANDOM.standard_normal((64, 64)).astype(np.float32)
    nodes = [node("MatMul", "x w", "y")]
    old = write_network(tmp_path / "old", nodes, {"w": weight}, ("batch", 64))
    new = typed(old, tmp_path / "new")
    stored = np.fromfile(new.parent / "model.onnx_data", np.float16)
    np.testing.assert_array_equal(stored, weight.astype(np.float16).ravel())


def test_nan_in_float32_is_reported(tmp_path: Path) -> None:
    nodes = [node("Mul", "x nan", "y")]
    old = write_network(tmp_path / "old", nodes, {"nan": np.array([np.nan], np.float32)})
    with pytest.raises(BuildError, match="'y' holds NaN or infinity even in float32: export"):
        write_half(old, tmp_path, "fp16", PLAIN, [X])


def test_a_network_that_does_not_run_is_reported(tmp_path: Path) -> None:
    nodes = [node("Reshape", "x shape", "y")]
    old = write_network(tmp_path / "old", nodes, {"shape": np.array([5, -1])})  # of 12 numbers
    with pytest.raises(BuildError, match=r"^the network does not run in onnxruntime: .*Reshape"):
        write_half(old, tmp_path, "fp16", PLAIN, [X])


def test_a_graph_inside_a_node_is_refused(tmp_path: Path) -> None:
    model = onnx.load(write_network(tmp_path, [node("Relu", "x", "y")], {}))
    inner = onnx.helper.make_graph([], "inner", [], [])
    model.graph.node[0].attribute.append(onnx.helper.make_attribute("then_branch", inner))
    with pytest.raises(BuildError, match=r"node 'y' \(Relu\) holds a graph of its own: export"):
        float_graph_from_model(model)


def test_a_tensor_of_unknown_type_is_refused(tmp_path: Path) -> None:
    model = onnx.load(write_network(tmp_path, [node("Relu", "x", "y")], {}))
    model.opset_import.append(onnx.helper.make_opsetid("elsewhere", 1))
    model.graph.node.append(onnx.helper.make_node("Strange", ["y"], ["z"], domain="elsewhere"))
    with pytest.raises(BuildError, match=r"the type of tensor 'z' \(Strange\) is unknown: export"):
        float_graph_from_model(model)


def test_psnr_within_equal_arrays_and_of_nan() -> None:
    array = np.array([1, 2, 3], np.float32)
    assert psnr_within(array, array) == np.inf
    assert psnr_within(array, array * np.float32(np.nan)) == 0
    assert psnr_within(array, array + np.float32(0.02)) == pytest.approx(40, abs=0.1)
