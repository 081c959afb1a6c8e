"""The layers of a denoiser that compute in int8: convolutions, and products with a weight.

Products of activations with each other, as in attention, are not among them. Neither are layers
that read an input of the network or write its output, and those for each row alone, such as the
embedding of timesteps (`Gemm`): they take little time, and their errors reach everything.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from sdrt_export.fusing.editor import FusionEditor
from sdrt_export.precision.typed_graph import Stored
from sdrt_export.quantizing.ranges import Range

_OUTPUT_AXIS = {"Conv": 0, "MatMul": 1}  # of the weight
_NUM_AXES = {"Conv": 4, "MatMul": 2}  # of the weight
_FLOATS = {TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16}


@dataclass(frozen=True, eq=False)
class Layer:
    """A node with its weight and its bias, in the types that they are stored in."""

    node: NodeProto
    weight: TensorProto
    bias: TensorProto | None
    adding: NodeProto | None  # the node that adds the bias, if it is not the layer's own input

    @property
    def name(self) -> str:
        """The node's name, as in other records: its output."""
        return str(self.node.output[0])

    @property
    def source(self) -> str:
        """The tensor that it reads."""
        return str(self.node.input[0])

    @property
    def rounded(self) -> tuple[str, ...]:
        """The tensors that are rounded for it: what it reads and, of a convolution, its result."""
        return (self.source, self.name) if self.node.op_type == "Conv" else (self.source,)

    @property
    def axis(self) -> int:
        """The axis of the weight that has an entry for each output channel."""
        return _OUTPUT_AXIS[self.node.op_type]

    @property
    def num_channels(self) -> int:
        """The channels of its output."""
        return int(self.weight.dims[self.axis])

    def num_products(self, ranges: Mapping[str, Range]) -> int:
        """The multiplications in one call: each weight is used at each position."""
        # The last tensor has as many channels as the weight's first axis, at each position.
        return int(math.prod(self.weight.dims[1:])) * ranges[self.rounded[-1]].size


def layers_of(graph: FusionEditor) -> list[Layer]:
    """The layers that can be quantized, in the graph's order."""
    found = []
    for node in graph.nodes:
        if node.op_type not in _OUTPUT_AXIS or _at_the_border(graph, node):
            continue
        weight = _stored_weight(graph, node.input[1])
        if weight is not None and len(weight.dims) == _NUM_AXES[node.op_type]:
            found.append(Layer(node, weight, *_bias_of(graph, node)))
    return found


def _at_the_border(graph: FusionEditor, node: NodeProto) -> bool:
    """True if the node reads an input or a constant of the network, or writes an output."""
    return node.input[0] not in graph.producer or not graph.outputs.isdisjoint(node.output)


def _bias_of(
    graph: FusionEditor, node: NodeProto
) -> tuple[TensorProto, NodeProto | None] | tuple[None, None]:
    """The bias of a layer, and the node that adds it if it has no input for it."""
    if len(node.input) > 2:
        bias = _stored_weight(graph, node.input[2])
        return (None, None) if bias is None else (bias, None)
    users = graph.consumers[node.output[0]]
    if node.op_type == "MatMul" and [user.op_type for user in users] == ["Add"]:
        for name in users[0].input:
            bias = _stored_weight(graph, name)
            if bias is not None and len(bias.dims) == 1:
                return bias, users[0]
    return None, None


def _stored_weight(graph: FusionEditor, name: str) -> TensorProto | None:
    """The initializer of floats that a node reads, maybe through a cast; None if it is computed."""
    maker = graph.producer.get(name)
    if maker is not None and maker.op_type == "Cast":
        name = maker.input[0]
    stored = graph.weights.get(name)
    if not isinstance(stored, Stored) or stored.source.data_type not in _FLOATS:
        return None
    return stored.source
