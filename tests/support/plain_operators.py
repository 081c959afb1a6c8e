"""ONNX Runtime's CUDA operators defined in plain ONNX, to run them on the CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

Nodes: TypeAlias = list[NodeProto]


def with_plain_operators(model: ModelProto) -> ModelProto:
    """The model without the operators that only CUDA has kernels for."""
    plain = ModelProto()
    plain.CopyFrom(model)
    nodes: Nodes = []
    for node in model.graph.node:
        define = DEFINITIONS.get(node.op_type) if node.domain == "com.microsoft" else None
        nodes += define(node) if define else [node]
    del plain.graph.node[:]
    plain.graph.node.extend(nodes)
    return plain


class _Writer:
    """Nodes of one definition, with unique names."""

    def __init__(self, node: NodeProto) -> None:
        self.prefix = f"plain {node.output[0]}"
        self.nodes: Nodes = []

    def __call__(self, operator: str, *inputs: str, output: str = "", **attributes: Any) -> str:
        name = output or f"{self.prefix} {len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, list(inputs), [name], **attributes))
        return name

    def constant(self, values: Any, dtype: Any = np.int64) -> str:
        name = f"{self.prefix} {len(self.nodes)}"
        value = numpy_helper.from_array(np.array(values, dtype))
        self.nodes.append(helper.make_node("Constant", [], [name], value=value))
        return name


def _nhwc_conv(node: NodeProto) -> Nodes:
    w = _Writer(node)
    x, weight = (w("Transpose", name, perm=[0, 3, 1, 2]) for name in node.input[:2])
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    y = w("Conv", x, weight, *node.input[2:], **attributes)
    w("Transpose", y, output=node.output[0], perm=[0, 2, 3, 1])
    return w.nodes


def _group_norm(node: NodeProto) -> Nodes:
    w = _Writer(node)
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    assert attributes["channels_last"] == 1
    x = node.input[0]
    if node.op_type == "SkipGroupNorm":
        x = _with_skip(w, node)
    first = w("Transpose", x, perm=[0, 3, 1, 2])
    flat = w("Reshape", first, w.constant([0, attributes["groups"], -1]))
    flat = w("Cast", flat, to=TensorProto.FLOAT)
    ones = w.constant(np.ones(attributes["groups"]), np.float32)
    zeros = w.constant(np.zeros(attributes["groups"]), np.float32)
    y = w("InstanceNormalization", flat, ones, zeros, epsilon=attributes["epsilon"])
    y = w("Transpose", w("Reshape", y, w("Shape", first)), perm=[0, 2, 3, 1])
    y = w("Add", w("Mul", y, node.input[1]), node.input[2])
    if attributes["activation"]:
        y = w("Mul", y, w("Sigmoid", y))
    w("CastLike", y, node.input[0], output=node.output[0])
    return w.nodes


def _with_skip(w: _Writer, node: NodeProto) -> str:
    """The sum of input, skip, which is (N, h, w, C) or (N, C), and bias, if there is one."""
    x, skip = node.input[0], node.input[3]

    def flat(name: str) -> str:  # (N, h·w or 1, C)
        sizes = [w("Shape", name, end=1), w.constant([-1]), w("Shape", name, start=-1)]
        return w("Reshape", name, w("Concat", *sizes, axis=0))

    total = w("Add", flat(x), flat(skip))
    for bias in node.input[4:]:
        total = w("Add", total, bias)
    output = node.output[1] if len(node.output) > 1 else ""
    return w("Reshape", total, w("Shape", x), output=output)


def _bias_split_gelu(node: NodeProto) -> Nodes:
    w = _Writer(node)
    x = w("Add", *node.input)
    w.nodes.append(
        helper.make_node("Split", [x], [f"{w.prefix} left", f"{w.prefix} right"], axis=-1)
    )
    right = f"{w.prefix} right"
    root = w("CastLike", w.constant(2**0.5, np.float32), x)
    one = w("CastLike", w.constant(1, np.float32), x)
    half = w("CastLike", w.constant(0.5, np.float32), x)
    gelu = w("Mul", w("Mul", right, half), w("Add", w("Erf", w("Div", right, root)), one))
    w("Mul", f"{w.prefix} left", gelu, output=node.output[0])
    return w.nodes


def _bias_add(node: NodeProto) -> Nodes:
    w = _Writer(node)
    w("Add", w("Add", *node.input[:2]), node.input[2], output=node.output[0])
    return w.nodes


DEFINITIONS: dict[str, Callable[[NodeProto], Nodes]] = {
    "NhwcConv": _nhwc_conv,
    "GroupNorm": _group_norm,
    "SkipGroupNorm": _group_norm,
    "BiasSplitGelu": _bias_split_gelu,
    "BiasAdd": _bias_add,
}
