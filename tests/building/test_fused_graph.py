"""ONNX Runtime's CUDA operators in a graph, replaced by plain operators and run on the CPU."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest

from sdrt.arrays import psnr_of
from sdrt.bundle.folder import Bundle
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import Array, engine_from_onnx
from sdrt_export.fusing.fused_graph import write_fused
from sdrt_export.precision.float_graph import float_graph_from_model
from sdrt_export.precision.policy import Rules
from sdrt_export.precision.typed_graph import half_from_float, kept_by_rules, load_for, write_typed
from support.half_graphs import node, operators_of, write_network
from support.plain_operators import with_plain_operators

pytestmark = pytest.mark.build

# What the demo's networks have, and what is not to be left over.
FUSED = {
    "unet": {"NhwcConv", "MultiHeadAttention", "SkipGroupNorm", "SkipLayerNormalization"},
    "unet_controlled": {"NhwcConv", "MultiHeadAttention", "SkipGroupNorm"},
    "vae_decoder": {"NhwcConv", "MultiHeadAttention", "GroupNorm", "SkipGroupNorm"},
    "vae_encoder": {"NhwcConv", "MultiHeadAttention", "GroupNorm"},
    "text_encoder": {"SkipLayerNormalization"},
    "controlnet_edges": {"NhwcConv", "GroupNorm", "MultiHeadAttention"},
}
RANDOM = np.random.default_rng(0)


def typed(model: Path, folder: Path, rules: Rules) -> Path:
    """The network with explicit types, the input of fusing."""
    folder.mkdir()
    graph = float_graph_from_model(load_for(model, "fp16"))
    return write_typed(
        half_from_float(graph, "fp16", kept_by_rules(graph, rules)), model.parent, folder
    )


def fused(model: Path, folder: Path) -> Path:
    folder.mkdir()
    return write_fused(model, folder)


def run_plain(model: Path, feeds: dict[str, Array]) -> dict[str, Array]:
    plain = with_plain_operators(onnx.load(model, load_external_data=False))
    path = model.with_name("plain.onnx")
    path.write_bytes(plain.SerializeToString())
    with engine_from_onnx(path, num_threads=1) as engine:
        return engine.run(feeds)


def random(*shape: int) -> Array:
    return RANDOM.standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("rules", [Rules(), Rules(everything="a test")], ids=["fp16", "fp32"])
def test_the_demo_s_networks_mean_the_same(name: str, rules: Rules, tmp_path: Path) -> None:
    bundle = Bundle.open("demo")
    model = typed(bundle.root / bundle.component(name).model, tmp_path / "typed", rules)
    result = fused(model, tmp_path / "fused")
    assert set(operators_of(result)) >= FUSED[name]
    assert "Conv" not in operators_of(result)
    feeds = seeded_inputs(bundle, name, latents=8)
    with engine_from_onnx(model, num_threads=1) as engine:
        expected = engine.run(feeds)
    got = run_plain(result, feeds)
    least = 100 if rules.everything else 50
    assert min(psnr_of(expected[output], got[output]) for output in expected) >= least


def test_attention_is_not_fused_if_its_scores_stay_float32(tmp_path: Path) -> None:
    """Stable Diffusion 2."""
    bundle = Bundle.open("demo")
    rules = Rules(attention_scores=True)
    model = typed(bundle.root / bundle.component("unet").model, tmp_path / "typed", rules)
    result = fused(model, tmp_path / "fused")
    assert set(operators_of(result)) >= FUSED["unet"] - {"MultiHeadAttention"}
    assert "MultiHeadAttention" not in operators_of(result)
    feeds = seeded_inputs(bundle, "unet", latents=8)
    with engine_from_onnx(model, num_threads=1) as engine:
        expected = engine.run(feeds)
    got = run_plain(result, feeds)
    assert psnr_of(expected["out_sample"], got["out_sample"]) >= 50


def test_transposes_are_left_only_where_a_network_begins_and_ends(tmp_path: Path) -> None:
    bundle = Bundle.open("demo")
    model = typed(bundle.root / bundle.component("unet").model, tmp_path / "typed", Rules())
    assert Counter(operators_of(fused(model, tmp_path / "fused")))["Transpose"] == 2


def test_a_feed_forward_of_a_known_width_is_fused(tmp_path: Path) -> None:
    nodes = [
        node("MatMul", "x w", "product"),
        node("Add", "b product", "biased"),
        node("Slice", "biased start middle axis", "left"),
        node("Slice", "biased middle end axis", "right"),
        node("Div", "right root", "divided"),
        node("Erf", "divided", "erf"),
        node("Add", "erf one", "plus"),
        node("Mul", "right plus", "gated"),
        node("Mul", "gated half", "gelu"),
        node("Mul", "left gelu", "y"),
    ]
    for width, operator in ((1280, "BiasSplitGelu"), (1281, "Erf")):
        weights: dict[str, Array] = {
            "w": random(4, 2 * width),
            "b": random(2 * width),
            "start": np.array([0]),
            "middle": np.array([width]),
            "end": np.array([2 * width]),
            "axis": np.array([-1]),
            "root": np.array(2**0.5, np.float32),
            "one": np.array(1, np.float32),
            "half": np.array(0.5, np.float32),
        }
        model = write_network(tmp_path / f"{width}", nodes, weights, ("B", "L", 4))
        result = fused(model, tmp_path / f"fused {width}")
        assert operator in operators_of(result)
        require_same(model, result, random(2, 3, 4))


def test_products_with_one_tensor_are_merged_when_they_are_many(tmp_path: Path) -> None:
    for count, products in ((3, 3), (4, 1), (33, 2)):
        nodes = [node("MatMul", f"x w{i}", f"y{i}") for i in range(count)]
        weights = {f"w{i}": random(4, 6) for i in range(count)}
        outputs = [f"y{i}" for i in range(count)]
        model = write_network(tmp_path / f"{count}", nodes, weights, ("B", 4), outputs)
        result = fused(model, tmp_path / f"fused {count}")
        assert operators_of(result).count("MatMul") == products
        require_same(model, result, random(2, 4))


def test_layer_norms_of_one_sum_are_fused_once(tmp_path: Path) -> None:
    """A text encoder's states go through the next layer's norm and through the last one."""
    nodes = [
        node("MatMul", "x w", "product"),
        node("Add", "b product", "biased"),
        node("Add", "x biased", "sum"),
        node("LayerNormalization", "sum scale b", "y"),
        node("LayerNormalization", "sum b scale", "z"),
    ]
    weights = {"w": random(4, 4), "b": random(4), "scale": random(4)}
    model = write_network(tmp_path / "plain", nodes, weights, ("B", "L", 4), ("y", "z"))
    result = fused(model, tmp_path / "fused")
    counts = Counter(operators_of(result))
    assert (counts["SkipLayerNormalization"], counts["LayerNormalization"]) == (1, 1)
    require_same(model, result, random(2, 3, 4))


def require_same(model: Path, result: Path, x: Array) -> None:
    with engine_from_onnx(model, num_threads=1) as engine:
        expected = engine.run({"x": x})
    for name, array in run_plain(result, {"x": x}).items():
        np.testing.assert_allclose(array, expected[name], rtol=1e-4, atol=1e-5)
