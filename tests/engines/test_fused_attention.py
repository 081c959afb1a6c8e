"""Attention of ONNX files, fused for ONNX Runtime on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import Array, Signature, engine_from_onnx, fused_attention, resident_memory
from sdrt_engines.fused_attention import with_fused_attention
from sdrt_engines.onnx_graph import GRAPH, Graph
from sdrt_engines.onnx_signature import onnx_message
from sdrt_engines.protobuf import message_of
from support.onnx_writer import Node, field, onnx_model, spec

HEADS, DIM = 4, 8
WIDTH = HEADS * DIM
SIGNATURE = Signature(
    (
        spec("x", "float32", "B", "L", WIDTH),
        spec("context", "float32", "B", "M", WIDTH),
    ),
    (spec("y", "float32", "B", "L", WIDTH),),
)
random = np.random.default_rng(0)
PROJECTIONS: dict[str, Array] = {
    name: random.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 6 for name in ("wk", "wv")
}
CONSTANTS: dict[str, Array] = {
    "split": np.array([0, -1, HEADS, DIM]),
    "merged": np.array([0, -1, WIDTH]),
    "scale": np.array(DIM**-0.5, np.float32),
}
WEIGHTS = CONSTANTS | PROJECTIONS
DATA = "model.onnx_data"


def attribute(name: str, number: int, *values: int) -> bytes:
    kind = field(20, 2 if number == 3 else 7)
    return field(5, field(1, name.encode()) + b"".join(field(number, v) for v in values) + kind)


def nodes(
    *, k_perm: tuple[int, ...] = (0, 2, 3, 1), axis: int = -1, zeros_are_sizes: int = 0
) -> list[Node]:
    """Cross-attention as the exporter writes it."""
    to_heads, sizes = attribute("perm", 8, 0, 2, 1, 3), attribute("allowzero", 3, zeros_are_sizes)
    return [
        ("Mul", ["x", "scale"], ["q"]),
        ("Reshape", ["q", "split"], ["q4"], sizes),
        ("Transpose", ["q4"], ["qh"], to_heads),
        ("MatMul", ["context", "wk"], ["k"]),
        ("Reshape", ["k", "split"], ["k4"]),
        ("Transpose", ["k4"], ["kh"], attribute("perm", 8, *k_perm)),
        ("MatMul", ["context", "wv"], ["v"]),
        ("Reshape", ["v", "split"], ["v4"]),
        ("Transpose", ["v4"], ["vh"], to_heads),
        ("MatMul", ["qh", "kh"], ["scores"]),
        ("Softmax", ["scores"], ["p"], attribute("axis", 3, axis)),
        ("MatMul", ["p", "vh"], ["o"]),
        ("Transpose", ["o"], ["turned"], to_heads),
        ("Reshape", ["turned", "merged"], ["y"]),
    ]


def replaced(old: str, *new: Node) -> list[Node]:
    """The nodes, with others in the place of the one that makes `old`."""
    return [each for node in nodes() for each in (new if node[2] == [old] else (node,))]


def operators(model: bytes | memoryview) -> list[str]:
    return [node.operator for node in Graph(message_of(memoryview(model), GRAPH)).nodes]


def fused(
    chosen: list[Node], weights: Mapping[str, Array] = WEIGHTS, signature: Signature = SIGNATURE
) -> bytes | None:
    return with_fused_attention(memoryview(onnx_model(signature, chosen, weights)))


def feeds(rows: int, length: int = 24, context: int = 10) -> dict[str, Array]:
    return {
        name: random.standard_normal((rows, size, WIDTH)).astype(np.float32)
        for name, size in (("x", length), ("context", context))
    }


def outputs(model: bytes, folder: Path, values: Mapping[str, Array]) -> dict[str, Array]:
    path = folder / "some.onnx"
    path.write_bytes(model)
    with engine_from_onnx(path, num_threads=1) as engine:
        return engine.run(values)


def test_it_becomes_one_operator_with_the_same_result(tmp_path: Path) -> None:
    new = fused(nodes())
    assert new is not None
    assert operators(new) == ["MatMul", "MatMul", "MultiHeadAttention"]
    values = feeds(2)
    expected = outputs(onnx_model(SIGNATURE, nodes(), WEIGHTS), tmp_path, values)
    got = outputs(new, tmp_path, values)
    np.testing.assert_allclose(got["y"], expected["y"], rtol=1e-5, atol=1e-6)


def test_without_a_factor_the_scale_is_one(tmp_path: Path) -> None:
    plain = replaced("q", ("Identity", ["x"], ["q"]))
    new = fused(plain)
    assert new is not None
    values = feeds(1)
    expected = outputs(onnx_model(SIGNATURE, plain, WEIGHTS), tmp_path, values)
    np.testing.assert_allclose(
        outputs(new, tmp_path, values)["y"], expected["y"], rtol=1e-5, atol=1e-6
    )


def test_results_that_are_used_elsewhere_stay(tmp_path: Path) -> None:
    probabilities = spec("p", "float32", "B", HEADS, "L", "M")
    both = Signature(SIGNATURE.inputs, (*SIGNATURE.outputs, probabilities))
    new = fused(nodes(), signature=both)
    assert new is not None
    assert {"Softmax", "MultiHeadAttention"} <= set(operators(new))
    values = feeds(1)
    got = outputs(new, tmp_path, values)
    expected = outputs(onnx_model(both, nodes(), WEIGHTS), tmp_path, values)
    np.testing.assert_array_equal(got["p"], expected["p"])


def test_a_row_does_not_depend_on_others(tmp_path: Path) -> None:
    new = fused(nodes())
    assert new is not None
    together = feeds(8, 150)
    expected = outputs(new, tmp_path, together)["y"]
    for row in range(8):
        alone = {name: value[row : row + 1] for name, value in together.items()}
        np.testing.assert_array_equal(outputs(new, tmp_path, alone)["y"], expected[row : row + 1])


@pytest.mark.parametrize(
    "other",
    [
        nodes(k_perm=(0, 2, 1, 3)),
        nodes(axis=2),
        nodes(zeros_are_sizes=1),
        replaced("p", ("Add", ["scores", "scale"], ["masked"]), ("Softmax", ["masked"], ["p"])),
        replaced("o", ("MatMul", ["vh", "p"], ["o"])),
        replaced("turned", ("Transpose", ["o"], ["turned"])),
        replaced("y", ("Flatten", ["turned"], ["y"])),
        replaced("y", ("Reshape", ["turned", "split"], ["y"])),
        replaced("k4", ("Shape", ["x"], ["shape"]), ("Reshape", ["k", "shape"], ["k4"])),
        [*nodes(), ("If", ["x"], ["z"])],
        [("Reshape", [], ["y"])],
        [("Reshape", ["x", "split"], ["x4"]), ("Transpose", [], ["t"]), *nodes()[-1:]],
    ],
)
def test_whatever_computes_something_else_stays(other: list[Node]) -> None:
    assert fused(other) is None


@pytest.mark.parametrize(
    "change",
    [
        {"split": np.array([0, 24, HEADS, DIM])},
        {"split": np.array([0, -1, WIDTH])},
        {"split": np.array([0, -1, HEADS, 0])},
        {"merged": np.array([0, -1, 2 * WIDTH])},
        {"merged": np.array([0, -1, WIDTH], np.int32)},
    ],
)
def test_other_shapes_stay(change: dict[str, Array]) -> None:
    assert fused(nodes(), WEIGHTS | change) is None


def test_a_file_with_its_weights_inside_is_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fused_attention, "_LARGE", 100)
    assert fused(nodes()) is None


def test_weights_next_to_the_file_are_read(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(SIGNATURE, nodes(), PROJECTIONS, DATA, inside=CONSTANTS))
    (tmp_path / DATA).write_bytes(b"".join(array.tobytes() for array in PROJECTIONS.values()))
    values = feeds(2)
    with (
        engine_from_onnx(path, num_threads=1, fused=True) as new,
        engine_from_onnx(path, num_threads=1) as plain,
    ):
        assert new.signature == plain.signature
        got, expected = new.run(values)["y"], plain.run(values)["y"]
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_the_matrix_of_scores_is_never_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(onnx_model(SIGNATURE, nodes(), WEIGHTS))
    length = 4096
    with engine_from_onnx(path, num_threads=1, fused=True) as engine:
        before = resident_memory()
        engine.run(feeds(1, length, length))
        after = resident_memory()
    assert before is not None and after is not None
    assert after - before < HEADS * length**2 * 4 / 4


@pytest.mark.parametrize("name", ["unet", "controlnet_edges", "vae_decoder", "vae_encoder"])
def test_the_exporter_s_attention_is_recognised(name: str) -> None:
    from sdrt.bundle.demo import DEMO_FOLDER

    with onnx_message(DEMO_FOLDER / name / "model.onnx") as message:
        new = with_fused_attention(message)
        assert new is not None
        num = operators(message).count("Softmax")
        assert num and operators(new).count("MultiHeadAttention") == num
        assert "Softmax" not in operators(new)
