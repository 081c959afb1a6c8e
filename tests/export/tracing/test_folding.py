"""Folding: known values are computed, others stay, and the numbers are the same."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, numpy_helper

from sdrt_export.tracing.folding import View, fold

pytestmark = pytest.mark.export

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'

# As tracers write x.reshape(B, -1, 3): the batch size is read and joined with the rest.
SPLIT = f"""{HEAD}
split (float[b, l, 6] x) => (float[p, q, 3] y) {{
    shape = Shape(x)
    zero = Constant<value = int64 {{0}}>()
    first = Constant<value = int64[1] {{0}}>()
    rest = Constant<value = int64[1] {{-1}}>()
    d = Constant<value = int64[1] {{3}}>()
    num = Gather(shape, zero)
    batch = Unsqueeze(num, first)
    target = Concat<axis = 0>(batch, rest, d)
    split = Reshape(x, target)
    y = Relu(split)
}}"""

# (B, h·w, C) to (B, h, w, C): two sizes are open, so they must be read.
UNFLATTEN = f"""{HEAD}
unflatten (float[b, n, 2] x, float[b, 5, h, w] like) => (float[b, h, w, 2] y) {{
    shape = Shape(like)
    zero = Constant<value = int64 {{0}}>()
    two = Constant<value = int64 {{2}}>()
    three = Constant<value = int64 {{3}}>()
    first = Constant<value = int64[1] {{0}}>()
    c = Constant<value = int64[1] {{2}}>()
    b0 = Gather(shape, zero)
    h0 = Gather(shape, two)
    w0 = Gather(shape, three)
    b1 = Unsqueeze(b0, first)
    h1 = Unsqueeze(h0, first)
    w1 = Unsqueeze(w0, first)
    target = Concat<axis = 0>(b1, h1, w1, c)
    y = Reshape(x, target)
}}"""

# x.chunk(2, -1)[1]: half of a size that is known.
CHUNK = f"""{HEAD}
chunk (float[b, 6] x) => (float[b, 3] y) {{
    shape = Shape(x)
    last = Constant<value = int64[1] {{-1}}>()
    one = Constant<value = int64[1] {{1}}>()
    two = Constant<value = int64[1] {{2}}>()
    size = Gather<axis = 0>(shape, last)
    more = Add(size, one)
    half = Div(more, two)
    end = Mul(half, two)
    y = Slice(x, half, end, last)
}}"""

# A transposed view of a weight, and an unused node.
LINEAR = f"""{HEAD}
linear (float[b, 3] x, float[2, 3] weight) => (float[b, 2] y) {{
    turned = Transpose<perm = [1, 0]>(weight)
    unused = Exp(x)
    y = MatMul(x, turned)
}}"""


def folded(text: str) -> tuple[ModelProto, list[str]]:
    """The folded model with its tensors inside, and their names."""
    model = onnx.parser.parse_model(text)
    tensors = fold(model, {})
    for name, tensor in tensors.items():
        assert isinstance(tensor, torch.Tensor)
        array = tensor.contiguous().numpy()
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    onnx.checker.check_model(model, full_check=True)
    return model, list(tensors)


def run(model: ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (result,) = session.run(None, feeds)
    return np.asarray(result)


def random(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize(
    ("text", "feeds", "operators", "names"),
    [
        (
            SPLIT,
            {"x": random(5, 7, 6)},
            {"Reshape": 1, "Relu": 1},
            ["int64 [0, -1, 3]"],
        ),
        (
            UNFLATTEN,
            {"x": random(3, 20, 2), "like": random(3, 5, 4, 5)},
            {"Shape": 3, "Concat": 1, "Reshape": 1},
            ["int64 [2]"],
        ),
        (CHUNK, {"x": random(4, 6)}, {"Slice": 1}, ["int64 [3]", "int64 [6]", "int64 [-1]"]),
    ],
)
def test_arithmetic_on_sizes(
    text: str, feeds: dict[str, np.ndarray], operators: dict[str, int], names: list[str]
) -> None:
    model, tensors = folded(text)
    assert Counter(node.op_type for node in model.graph.node) == operators
    assert tensors == names
    np.testing.assert_array_equal(run(model, feeds), run(onnx.parser.parse_model(text), feeds))


def test_a_transposed_weight_shares_its_memory_and_keeps_its_name() -> None:
    weight = torch.from_numpy(random(2, 3))
    model = onnx.parser.parse_model(LINEAR)
    ((name, view),) = fold(model, {"weight": weight.shape}).items()

    assert [node.op_type for node in model.graph.node] == ["MatMul"]
    assert name == "weight.Transpose"
    assert isinstance(view, View)
    assert view.of({"weight": weight}).data_ptr() == weight.data_ptr()
    np.testing.assert_array_equal(view.of({"weight": weight}), weight.T)


def test_a_weight_is_called_as_in_the_checkpoint() -> None:
    model = onnx.parser.parse_model(LINEAR)
    model.graph.input[1].name = "model.to_q.weight"
    model.graph.node[0].input[0] = "model.to_q.weight"
    ((name, view),) = fold(model, {"model.to_q.weight": (2, 3)}).items()
    assert name == "to_q.weight.Transpose"
    assert view == View("to_q.weight", (3, 2), (1, 3))
