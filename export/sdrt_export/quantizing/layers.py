"""The layers of a denoiser that compute in int8: convolutions, and products with a weight.

Products of activations with each other, as in attention, are not among them. Neither are layers
that read an input of the network or write its output, and those for each row alone, such as the
embedding of timesteps (`Gemm`): they take little time, and their errors reach everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from onnx import NodeProto, TensorProto

from sdrt_engines import Array
from sdrt_export.fusing.editor import FusionEditor
from sdrt_export.precision.float_graph import FLOAT
from sdrt_export.precision.typed_graph import Combined, Stored

_OUTPUT_AXIS = {"Conv": 0, "MatMul": 1}  # of the weight
_FLOATS = {FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}
LARGEST = 127  # of int8, on both sides of 0


@dataclass(frozen=True, eq=False)
class Layer:
    """A node with its weight, in the type that it is stored in."""

    node: NodeProto
    weight: TensorProto

    @property
    def name(self) -> str:
        """The node's name, as in other records: its output."""
        return str(self.node.output[0])

    @property
    def source(self) -> str:
        """The tensor that it reads."""
        return str(self.node.input[0])

    @property
    def axis(self) -> int:
        """The axis of the weight that has an entry for each output channel."""
        return _OUTPUT_AXIS[self.node.op_type]

    def part(self, change: Callable[[Array, int], Array]) -> Combined:
        """A weight of the new graph that is computed from this layer's, in float32."""
        return Combined((Stored(self.weight, FLOAT),), partial(_changed, change, self.axis))


def _changed(change: Callable[[Array, int], Array], axis: int, parts: Sequence[Array]) -> Array:
    return change(parts[0], axis)


def layers_of(graph: FusionEditor) -> list[Layer]:
    """The layers that can be quantized, in the graph's order."""
    inputs = {value.name for value in graph.model.graph.input}
    found = []
    for node in graph.nodes:
        if node.op_type not in _OUTPUT_AXIS:
            continue
        weight = stored_weight(graph, node.input[1])
        border = node.input[0] in inputs or graph.outputs & set(node.output)
        if weight is not None and not border:
            found.append(Layer(node, weight))
    return found


def stored_weight(graph: FusionEditor, name: str) -> TensorProto | None:
    """The initializer of floats that a node reads, maybe through a cast; None if it is computed."""
    maker = graph.producer.get(name)
    if maker is not None and maker.op_type == "Cast":
        name = maker.input[0]
    stored = graph.weights.get(name)
    if not isinstance(stored, Stored) or stored.source.data_type not in _FLOATS:
        return None
    return stored.source


def scales_of(weight: Array, axis: int) -> Array:
    """The step of int8 for each output channel."""
    others = tuple(i for i in range(weight.ndim) if i != axis)
    largest = np.abs(weight).max(axis=others)
    return np.maximum(largest, np.finfo(np.float32).tiny * LARGEST).astype(np.float32) / LARGEST


def rounded_to_int8(weight: Array, axis: int) -> Array:
    """The weight in steps of its channels, symmetric about 0."""
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = np.rint(weight / scales_of(weight, axis).reshape(shape))
    return np.clip(steps, -LARGEST, LARGEST).astype(np.int8)
