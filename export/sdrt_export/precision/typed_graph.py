"""An explicitly typed half-precision ONNX graph from a float32 one.

TensorRT 11 only has strongly typed networks: the graph sets the type of each computation. One pass
decides it node by node:

1. A node stays float32 if the rules of its family say so (`precision.policy`), if running the
   network showed that it must (`precision.check`), if ONNX has no half type for it, or if it is
   cheap and between such nodes. Every other node computes in half precision.
2. Weights take the type of the node that uses them; a weight stored in float16 and cast before its
   use (`sdrt export --weights fp16`) loses the cast.
3. If two neighbours differ, there is one cast, shared by all nodes that need it.

Inputs and outputs of the network stay float32: the cast at the border is part of the graph, costs a
few microseconds on a GPU, and leaves every signature as the manifest records it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnx.version_converter
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sdrt.bundle.optimum_folder import MODEL_NAME
from sdrt_engines import Array
from sdrt_export.external_data import DATA_NAME, array_of, initializer
from sdrt_export.precision.float_graph import (
    FLOAT,
    FloatGraph,
    NodeName,
    gives_type,
    opset_of,
    takes_type,
)
from sdrt_export.precision.policy import HalfType, Rules

ELEMENTS: Mapping[HalfType, int] = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
LARGEST: Mapping[HalfType, float] = {"fp16": 65504.0, "bf16": 3.38e38}
INFINITE = 1e30  # a larger constant means infinity, as in masks

_BF16_OPSET = 22  # the first in which convolutions support it
_SUFFIXES = {FLOAT: "fp32"} | {element: half for half, element in ELEMENTS.items()}


@dataclass(frozen=True)
class Stored:
    """A weight of the new graph: an initializer of the old one, and its new type.

    `view` changes its layout: transposed, flattened.
    """

    source: TensorProto
    element: int
    view: Callable[[Array], Array] | None = None

    def values(self, folder: Path) -> Array:
        """The values to write; `folder` holds the old graph's external data."""
        array = _converted(array_of(self.source, folder), self.element)
        return array if self.view is None else np.ascontiguousarray(self.view(array))


@dataclass(frozen=True)
class Combined:
    """A weight of the new graph that is made of several."""

    parts: tuple[Stored | Combined, ...]
    combine: Callable[[Sequence[Array]], Array]

    def values(self, folder: Path) -> Array:
        """The values to write, as of a `Stored` weight."""
        return self.combine([part.values(folder) for part in self.parts])


@dataclass
class TypedGraph:
    """A graph in which every tensor has its type. The weights are not converted yet."""

    model: ModelProto
    weights: dict[str, Stored | Combined] = field(default_factory=dict)


def load_for(path: Path, half: HalfType) -> ModelProto:
    """The graph in the file at `path`, without its weights, at an opset that supports `half`."""
    model = onnx.load(path, load_external_data=False)
    if half == "bf16" and opset_of(model) < _BF16_OPSET:
        model = onnx.version_converter.convert_version(model, _BF16_OPSET)
    return model


def kept_by_rules(graph: FloatGraph, rules: Rules) -> set[NodeName]:
    """The nodes that stay float32 by `rules`, before anything was run."""
    if rules.everything is not None:
        return graph.names
    kept = {node.output[0] for node in graph.nodes if node.op_type in rules.operators}
    kept |= graph.origins([node for node in graph.nodes if node.op_type in rules.with_origins])
    if rules.attention_scores:
        for node in graph.nodes:
            if node.op_type == "Softmax":
                kept |= _scores_before(graph, node)
    return kept


def _scores_before(graph: FloatGraph, softmax: NodeProto) -> set[NodeName]:
    """The softmax, the product of queries and keys, and the nodes between: scale, mask, views."""
    found: set[NodeName] = set()
    open_nodes = [softmax]
    while open_nodes:
        node = open_nodes.pop()
        found.add(node.output[0])
        if node.op_type not in ("MatMul", "Einsum"):
            inputs = graph.float_inputs(node)
            open_nodes += [graph.producer[name] for name in inputs if name in graph.producer]
    return found


def half_from_float(graph: FloatGraph, half: HalfType, kept: set[NodeName]) -> TypedGraph:
    """The graph with all float32 nodes in `half`, except `kept` and those without a half type."""
    opset, element = opset_of(graph.model), ELEMENTS[half]
    kept = kept | {
        node.output[0] for node in graph.nodes if not _knows_type(graph, node, element, opset)
    }
    return _Typing(graph, element, graph.with_islands(kept), opset).run()


def _knows_type(graph: FloatGraph, node: NodeProto, element: int, opset: int) -> bool:
    """True if the node's first float32 input and output may have the type `element`.

    Other places may always be float32: the scales of a Resize.
    """
    inputs = [place for place, name in enumerate(node.input) if name in graph.floats][:1]
    outputs = [place for place, name in enumerate(node.output) if name in graph.floats][:1]
    return all(takes_type(node, place, element, opset) for place in inputs) and all(
        gives_type(node, place, element, opset) for place in outputs
    )


class _Typing:
    """The pass over the nodes, in their order."""

    def __init__(self, graph: FloatGraph, element: int, kept: set[NodeName], opset: int) -> None:
        self.graph, self.element, self.kept, self.opset = graph, element, kept, opset
        self.made = {value.name: FLOAT for value in graph.model.graph.input}  # tensor → its type
        self.cast: dict[tuple[str, int], str] = {}
        self.nodes: list[NodeProto] = []
        self.weights: dict[str, Stored | Combined] = {}
        self.outputs = frozenset(graph.outputs)

    def run(self) -> TypedGraph:
        for old in self.graph.nodes:
            node = NodeProto()
            node.CopyFrom(old)
            target = FLOAT if old.output[0] in self.kept else self.element
            for place, name in enumerate(old.input):
                if name:
                    node.input[place] = self._input(old, place, name, target)
            self._type_attributes(node, target)
            self.nodes.append(node)
            for place, name in enumerate(old.output):
                if name in self.graph.floats:
                    self._give(node, place, name, target)
        return TypedGraph(self._model(), self.weights)

    def _input(self, node: NodeProto, place: int, name: str, target: int) -> str:
        """The tensor's name in the type that the node takes it in."""
        if name not in self.graph.floats:
            if name in self.graph.weights:
                source = self.graph.weights[name]
                self.weights[name] = Stored(source, source.data_type)
            return name
        wanted = target if takes_type(node, place, target, self.opset) else FLOAT
        return self._as(name, wanted)

    def _as(self, name: str, wanted: int) -> str:
        if name in self.graph.weights:
            typed = f"{name}.{_SUFFIXES[wanted]}"
            self.weights[typed] = Stored(self.graph.weights[name], wanted)
            return typed
        if self.made[name] == wanted:
            return self.cast.get((name, wanted), name)
        if (name, wanted) not in self.cast:
            typed = f"{name}.{_SUFFIXES[wanted]}"
            self.nodes.append(cast_node(name, typed, wanted))
            self.cast[name, wanted] = typed
        return self.cast[name, wanted]

    def _give(self, node: NodeProto, place: int, name: str, target: int) -> None:
        made = target if gives_type(node, place, target, self.opset) else FLOAT
        self.made[name] = made
        if made != FLOAT and name in self.outputs:  # outputs of the network are float32
            inner = f"{name}.{_SUFFIXES[made]}"
            node.output[place] = inner
            self.nodes.append(cast_node(inner, name, FLOAT))
            self.cast[name, made], self.cast[name, FLOAT] = inner, name

    def _type_attributes(self, node: NodeProto, target: int) -> None:
        """Changes the attributes that set a node's output to float32."""
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == FLOAT:
                attribute.i = target
            if node.op_type == "ConstantOfShape" and attribute.t.data_type == FLOAT:
                value = _converted(numpy_helper.to_array(attribute.t), target)
                attribute.t.CopyFrom(numpy_helper.from_array(value))

    def _model(self) -> ModelProto:
        model = ModelProto()
        model.CopyFrom(_without_graph(self.graph.model))
        graph = self.graph.model.graph
        model.graph.name = graph.name
        model.graph.node.extend(self.nodes)
        model.graph.input.extend(v for v in graph.input if v.name not in self.graph.weights)
        model.graph.output.extend(graph.output)
        return model


def _without_graph(model: ModelProto) -> ModelProto:
    bare = ModelProto(ir_version=model.ir_version, producer_name=model.producer_name)
    bare.opset_import.extend(model.opset_import)
    return bare


def write_typed(typed: TypedGraph, weights_folder: Path, folder: Path) -> Path:
    """Writes `model.onnx` and its weights into `folder`; the model's path.

    `weights_folder` holds the old graph's external data. One weight is in memory at a time.
    """
    del typed.model.graph.initializer[:]
    with (folder / DATA_NAME).open("wb") as data:
        for name, stored in typed.weights.items():
            array = stored.values(weights_folder)
            typed.model.graph.initializer.append(initializer(name, array, data))
    path = folder / MODEL_NAME
    path.write_bytes(typed.model.SerializeToString())
    return path


def _converted(array: Array, element: int) -> Array:
    """The array in another float type; infinite values become the largest number."""
    wanted = helper.tensor_dtype_to_np_dtype(element)
    if array.dtype == wanted:
        return array
    if element == TensorProto.FLOAT16 and array.size and np.abs(array).max() >= INFINITE:
        array = np.clip(array, -LARGEST["fp16"], LARGEST["fp16"])
    with np.errstate(over="ignore"):  # the check finds overflows
        return np.asarray(array.astype(wanted))


def cast_node(source: str, target: str, element: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], to=element)
