"""A graph editor for passes that replace several nodes by one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper

from sdrt_engines import Array
from sdrt_export.external_data import array_of
from sdrt_export.precision.typed_graph import Combined, Stored

DOMAIN = "com.microsoft"  # of ONNX Runtime's own operators

Shape: TypeAlias = tuple[int | str, ...]


@dataclass
class FusionEditor:
    """The nodes of a typed graph, the maker and takers of each tensor, and the weights.

    A pass replaces nodes while it iterates over them; `commit` rebuilds the list, so that the next
    pass sees the changes. Remaining tensors keep their names, so `shapes`, those of the original
    graph, are valid for all passes.
    """

    model: ModelProto
    folder: Path  # of its external data
    weights: dict[str, Stored | Combined] = field(init=False)
    shapes: dict[str, Shape] = field(init=False)
    nodes: list[NodeProto] = field(init=False)

    def __post_init__(self) -> None:
        graph = self.model.graph
        self.weights = {w.name: Stored(w, w.data_type) for w in graph.initializer}
        self.shapes = _shapes_in(self.model)
        self.outputs = frozenset(value.name for value in graph.output)
        self.nodes = list(graph.node)
        self._index()

    def _index(self) -> None:
        self.producer = {output: node for node in self.nodes for output in node.output if output}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                self.consumers[name].append(node)
        self._removed: set[int] = set()
        self._added: dict[int, list[NodeProto]] = defaultdict(list)

    def replace(self, old: Sequence[NodeProto], at: NodeProto, *new: NodeProto) -> None:
        """Puts the `new` nodes in place of `at`, one of the `old` nodes, which are all removed."""
        self._removed |= {id(node) for node in old}
        self._added[id(at)] += new

    def commit(self) -> None:
        nodes = []
        for node in self.nodes:
            nodes += self._added[id(node)]
            if id(node) not in self._removed:
                nodes.append(node)
        self.nodes = nodes
        self._index()

    def finish(self) -> ModelProto:
        """The model with the current nodes, without unused nodes and weights."""
        used, nodes = set(self.outputs), []
        for node in reversed(self.nodes):
            if used & set(node.output):
                nodes.append(node)
                used |= set(node.input)
        self.nodes = nodes[::-1]
        self.weights = {name: weight for name, weight in self.weights.items() if name in used}
        del self.model.graph.node[:]
        self.model.graph.node.extend(self.nodes)
        del self.model.graph.value_info[:]
        if DOMAIN not in {entry.domain for entry in self.model.opset_import}:
            self.model.opset_import.append(helper.make_opsetid(DOMAIN, 1))
        return self.model

    # --- queries of patterns

    def maker(self, name: str, operator: str) -> NodeProto | None:
        """The node that computes the tensor, if it has this operator."""
        node = self.producer.get(name)
        return node if node is not None and node.op_type == operator else None

    def taker(self, name: str, operator: str) -> NodeProto | None:
        """The only node that takes the tensor, if it has this operator."""
        nodes = self.consumers[name]
        if len(nodes) != 1 or name in self.outputs or nodes[0].op_type != operator:
            return None
        return nodes[0]

    def split_weight(self, node: NodeProto) -> tuple[str, str] | None:
        """The names of the tensor and of the weight that a node with two inputs takes."""
        first, second = node.input
        if (first in self.weights) == (second in self.weights):
            return None
        return (second, first) if first in self.weights else (first, second)

    def constant(self, name: str) -> Array | None:
        """The values of a weight."""
        stored = self.weights.get(name)
        return array_of(stored.source, self.folder) if isinstance(stored, Stored) else None

    def scalar(self, name: str) -> float | None:
        values = self.constant(name) if self._is_small(name) else None
        return None if values is None or values.size != 1 else float(values.reshape(()))

    def ints(self, name: str) -> list[int] | None:
        values = self.constant(name) if self._is_small(name) else None
        return None if values is None or values.dtype != np.int64 else values.ravel().tolist()

    def _is_small(self, name: str) -> bool:
        stored = self.weights.get(name)
        return isinstance(stored, Stored) and int(np.prod(stored.source.dims)) <= 16

    def add_view(
        self, name: str, suffix: str, view: Callable[[Array], Array], element: int | None = None
    ) -> str:
        """Adds a view of a weight; returns its name."""
        stored = self.weights[name]
        assert isinstance(stored, Stored), name
        new = f"{name}.{suffix}"
        element = stored.element if element is None else element
        self.weights[new] = Stored(stored.source, element, view)
        return new

    def add_combined(
        self, names: Sequence[str], suffix: str, combine: Callable[[Sequence[Array]], Array]
    ) -> str:
        """Adds a weight made of several; returns its name."""
        new = f"{names[0]}.{suffix}"
        self.weights[new] = Combined(tuple(self.weights[name] for name in names), combine)
        return new

    def add_ints(self, values: Sequence[int]) -> str:
        name = f"int64 {list(values)}"
        tensor = onnx.numpy_helper.from_array(np.array(values, np.int64), name)
        self.weights.setdefault(name, Stored(tensor, TensorProto.INT64))
        return name


def contrib(operator: str, inputs: Iterable[str], outputs: Iterable[str], **attributes: Any) -> Any:
    """A node of ONNX Runtime's own operators."""
    outputs = list(outputs)
    name = f"{operator} {outputs[0]}"
    return helper.make_node(operator, list(inputs), outputs, name, domain=DOMAIN, **attributes)


def attributes_of(node: NodeProto) -> dict[str, Any]:
    return {entry.name: helper.get_attribute_value(entry) for entry in node.attribute}


def _shapes_in(model: ModelProto) -> dict[str, Shape]:
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = {weight.name: tuple(weight.dims) for weight in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        if value.type.tensor_type.HasField("shape"):
            shapes[value.name] = tuple(
                dim.dim_value if dim.HasField("dim_value") else dim.dim_param
                for dim in value.type.tensor_type.shape.dim
            )
    return shapes
