"""Half precision emulated on the CPU: each rounding is a node of the graph."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, numpy_helper

from sdrt_export.precision.float_graph import FLOAT, VIEWS
from sdrt_export.precision.typed_graph import ELEMENTS, cast_node


def rounding_model(typed: ModelProto) -> ModelProto:
    """The same network in float32 with explicit rounding: every tensor that is half precision in
    `typed` is cast to that type and back.

    ONNX Runtime's CPU has few half-precision kernels. It computes the others in float32 and omits
    the rounding between two of them, overflow included (1.31: 1e6 passes through a float16 tensor
    unchanged), so running the typed graph itself there proves little.
    """
    rounded = ModelProto()
    rounded.CopyFrom(typed)
    graph = rounded.graph
    halves = {ELEMENTS["fp16"], ELEMENTS["bf16"]}
    types = _types_in(typed)
    del graph.node[:]
    for weight in graph.initializer:
        if weight.data_type in halves:
            graph.node.append(cast_node(f"{weight.name}.stored", weight.name, FLOAT))
            weight.name = f"{weight.name}.stored"
    for old in typed.graph.node:
        graph.node.extend(_rounding_nodes(old, types, halves))
    return rounded


def _rounding_nodes(
    old: NodeProto, types: Mapping[str, int], halves: set[int]
) -> Iterator[NodeProto]:
    node = NodeProto()
    node.CopyFrom(old)
    for attribute in node.attribute:
        if node.op_type == "Cast" and attribute.i in halves:
            attribute.i = FLOAT
        if node.op_type == "ConstantOfShape" and attribute.t.data_type in halves:
            value = numpy_helper.to_array(attribute.t).astype(np.float32)
            attribute.t.CopyFrom(numpy_helper.from_array(value))
    if old.op_type in VIEWS:  # its inputs are rounded already
        yield node
        return
    rounded = [name for name in old.output if types.get(name) in halves]
    for place, name in enumerate(old.output):
        if name in rounded:
            node.output[place] = f"{name}.exact"
    yield node
    for name in rounded:
        yield cast_node(f"{name}.exact", f"{name}.rounded", types[name])
        yield cast_node(f"{name}.rounded", name, FLOAT)


def _types_in(model: ModelProto) -> dict[str, int]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    return {value.name: value.type.tensor_type.elem_type for value in graph.value_info}
