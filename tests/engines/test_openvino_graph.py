from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from sdrt_engines import Array, Signature, openvino_engine_from_onnx
from sdrt_engines.openvino_cpu import openvino_refusal
from sdrt_engines.openvino_graph import split_gates
from sdrt_engines.openvino_library import core
from support.onnx_writer import Node, field, node, onnx_model, spec

pytestmark = pytest.mark.skipif(
    openvino_refusal() is not None, reason=openvino_refusal() or "it opens"
)

RNG = np.random.default_rng(0)
X = RNG.standard_normal((2, 12, 8), np.float32)
WEIGHT, BIAS = RNG.standard_normal((8, 12), np.float32), RNG.standard_normal(12, np.float32)
SIGNATURE = Signature((spec("x", "float32", "B", "L", 8),), (spec("y", "float32", "B", "M", "N"),))
WHOLE = Signature(SIGNATURE.inputs, (*SIGNATURE.outputs, spec("y2", "float32", 1, 1, 1)))
TO_FLOAT32 = field(5, field(1, b"to") + field(3, 1) + field(20, 2))


def sliced(
    start: int,
    stop: int,
    axis: int,
    step: int,
    bias: Array,
    stored: str,
    extra: Sequence[bytes] = (),
) -> bytes:
    """A network that returns a slice of x·W + b."""
    nodes: list[Node] = [
        ("Cast", ["stored"], ["weight"], TO_FLOAT32),
        ("MatMul", ["x", "weight"], ["product"]),
        ("Add", ["bias", "product"], ["sum"]),
        ("Slice", ["sum", "start", "stop", "axis", "step"], ["y"]),
    ]
    numbers = {"start": start, "stop": stop, "axis": axis, "step": step}
    arrays = {name: np.array([number]) for name, number in numbers.items()}
    arrays |= {"stored": WEIGHT.astype(stored), "bias": bias}
    return onnx_model(SIGNATURE if not extra else WHOLE, nodes, arrays, extra=extra)


def num_columns(path: Path) -> int:
    """The columns of the matrix product, once gates are split."""
    model = core().read_model(path)
    split_gates(model)
    (product,) = (node for node in model.get_ops() if node.get_type_name() == "MatMul")
    columns: int = product.get_output_partial_shape(0)[2].get_length()
    return columns


@pytest.mark.parametrize("stored", ["float16", "float32"])
@pytest.mark.parametrize(
    ("bounds", "columns"),
    [
        ((0, 6, -1, 1), 6),
        ((6, 2**62, 2, 1), 6),
        ((-4, -1, -1, 1), 3),
        ((0, 12, -1, 2), 12),  # every second column
        ((0, 6, 1, 1), 12),  # another axis
    ],
)
def test_columns_of_a_product_are_a_product_of_their_own(
    tmp_path: Path, bounds: tuple[int, int, int, int], columns: int, stored: str
) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(sliced(*bounds, BIAS, stored))
    assert num_columns(path) == columns
    start, stop, axis, step = bounds
    weight = WEIGHT.astype(stored).astype(np.float32)
    expected = (X @ weight + BIAS).take(range(12)[start:stop:step], axis)
    with openvino_engine_from_onnx(path, num_threads=1) as engine:
        np.testing.assert_allclose(engine.run({"x": X})["y"], expected, rtol=0, atol=1e-5)


def test_a_sum_that_is_used_whole_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    whole = node("ReduceMax", ["sum"], ["y2"])
    path.write_bytes(sliced(0, 6, -1, 1, BIAS, "float32", [whole]))
    assert num_columns(path) == 12


def test_a_sum_with_anything_but_a_bias_stays(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(sliced(0, 6, -1, 1, RNG.standard_normal((12, 12), np.float32), "float32"))
    assert num_columns(path) == 12
