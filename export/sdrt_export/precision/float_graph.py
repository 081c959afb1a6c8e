"""The float32 part of an ONNX graph, the input of the precision pass."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TypeAlias

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from sdrt_export.errors import BuildError

NodeName: TypeAlias = str  # a node's first output, which is unique; nodes' own names are not

FLOAT: int = TensorProto.FLOAT

# Operators that pass values on unchanged.
VIEWS = frozenset(
    {"Reshape", "Transpose", "Slice", "Gather", "Concat", "Unsqueeze", "Squeeze", "Expand"}
    | {"Identity", "Flatten", "Split"}
)
# The operators that take the time of an engine; all others cost less than a cast.
_PRODUCTS = frozenset({"Conv", "ConvTranspose", "MatMul", "Gemm", "Einsum"})


@dataclass
class FloatGraph:
    """The nodes of a model without the casts that only unpack weights, and its float32 tensors."""

    model: ModelProto
    nodes: list[NodeProto]
    weights: dict[str, TensorProto]  # by the name under which nodes use them
    floats: frozenset[str]  # every tensor and weight that holds float32
    producer: dict[str, NodeProto] = field(init=False)
    consumers: dict[str, list[NodeProto]] = field(init=False)

    def __post_init__(self) -> None:
        self.producer = {output: node for node in self.nodes for output in node.output}
        self.consumers = defaultdict(list)
        for node in self.nodes:
            for name in node.input:
                self.consumers[name].append(node)

    @property
    def names(self) -> set[NodeName]:
        return {node.output[0] for node in self.nodes}

    @property
    def outputs(self) -> tuple[str, ...]:
        return tuple(value.name for value in self.model.graph.output)

    def float_inputs(self, node: NodeProto) -> list[str]:
        """The node's float32 inputs that are not weights."""
        return [name for name in node.input if name in self.floats and name not in self.weights]

    def float_outputs(self, node: NodeProto) -> list[str]:
        return [name for name in node.output if name in self.floats]

    def origins(self, nodes: Sequence[NodeProto]) -> set[NodeName]:
        """These nodes and all float32 nodes that lead to them."""
        found: set[NodeName] = set()
        open_nodes = list(nodes)
        while open_nodes:
            node = open_nodes.pop()
            if node.output[0] not in found:
                found.add(node.output[0])
                inputs = self.float_inputs(node)
                open_nodes += [self.producer[name] for name in inputs if name in self.producer]
        return found

    def with_islands(self, kept: set[NodeName]) -> set[NodeName]:
        """`kept` and the cheap nodes between such nodes: a cast on each side would cost more."""
        fed = set(kept)
        for node in self.nodes:
            inputs = self.float_inputs(node)
            if (
                node.op_type not in _PRODUCTS
                and inputs
                and all(self._is_fed(n, fed) for n in inputs)
            ):
                fed.add(node.output[0])
        wanted = set(kept)
        for node in reversed(self.nodes):
            users = [user for name in self.float_outputs(node) for user in self.consumers[name]]
            if users and all(user.output[0] in wanted for user in users):
                wanted.add(node.output[0])
        return kept | (fed & wanted)

    def _is_fed(self, name: str, fed: set[NodeName]) -> bool:
        producer = self.producer.get(name)  # None for an input of the graph, which is float32
        return producer is None or producer.output[0] in fed


def float_graph_from_model(model: ModelProto) -> FloatGraph:
    """The view of `model`, which is not changed. BuildError if a tensor's type is unknown."""
    weights = {weight.name: weight for weight in model.graph.initializer}
    nodes = []
    for node in model.graph.node:
        if node.op_type == "Cast" and node.input[0] in weights and _target_of(node) == FLOAT:
            weights[node.output[0]] = weights[node.input[0]]  # stored small, used as float32
        elif node.op_type == "Constant" and node.attribute[0].name == "value":
            weights[node.output[0]] = node.attribute[0].t
        else:
            nodes.append(node)
        if any(attribute.HasField("g") for attribute in node.attribute):
            raise BuildError(
                f"node '{node.name}' ({node.op_type}) holds a graph of its own: "
                "export the checkpoint with sdrt"
            )
    return FloatGraph(model, nodes, weights, _floats_in(model))


def takes_type(node: NodeProto, place: int, element: int, opset: int) -> bool:
    """True if the input at `place` may have the ONNX type `element`."""
    return element in _allowed(node.op_type, opset, "inputs", place)


def gives_type(node: NodeProto, place: int, element: int, opset: int) -> bool:
    """The same for an output."""
    return element in _allowed(node.op_type, opset, "outputs", place)


@lru_cache(maxsize=4096)
def _allowed(operator: str, opset: int, side: str, place: int) -> frozenset[int]:
    formals = getattr(onnx.defs.get_schema(operator, opset), side)
    formal = formals[min(place, len(formals) - 1)]  # the last may be variadic
    return frozenset(
        element
        for element in (FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16)
        if f"tensor({_TYPE_NAMES[element]})" in formal.types
    )


_TYPE_NAMES: dict[int, str] = {
    FLOAT: "float",
    TensorProto.FLOAT16: "float16",
    TensorProto.BFLOAT16: "bfloat16",
}


def opset_of(model: ModelProto) -> int:
    versions = {entry.domain: entry.version for entry in model.opset_import}
    opset: int = versions.get("") or versions["ai.onnx"]
    return opset


def _target_of(cast: NodeProto) -> int:
    target: int = next(attribute.i for attribute in cast.attribute if attribute.name == "to")
    return target


def _floats_in(model: ModelProto) -> frozenset[str]:
    graph = onnx.shape_inference.infer_shapes(model).graph
    types = {weight.name: weight.data_type for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        types[value.name] = value.type.tensor_type.elem_type
    for node in graph.node:
        for name in filter(None, node.output):
            if not types.get(name):
                raise BuildError(
                    f"the type of tensor '{name}' ({node.op_type}) is unknown: "
                    "export the checkpoint with sdrt"
                )
    return frozenset(name for name, element in types.items() if element == FLOAT)
