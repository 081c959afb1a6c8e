"""Makes a traced graph smaller by computing everything that is known before a run.

Tracing leaves long chains of arithmetic on sizes, most of them before a Reshape for which all sizes
but one are known. Engines fold few of them, and load more slowly the more nodes there are. ONNX's
own shape inference provides the known sizes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import onnx
import torch
from onnx import ModelProto, NodeProto, helper, numpy_helper

Tensors: TypeAlias = dict[str, torch.Tensor]
Dims: TypeAlias = Sequence[int | str]  # equal names are equal sizes; "" may be any

MODEL_PREFIX = "model."  # of a weight's name in a `Network`; the rest is its name in the checkpoint


@dataclass(frozen=True)
class View:
    """A weight whose values are read later, possibly with other axes."""

    weight: str  # its name in the checkpoint
    shape: tuple[int, ...]
    stride: tuple[int, ...]

    def of(self, weights: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The view of one of these weights; it shares the weight's memory."""
        return weights[self.weight].contiguous().as_strided(self.shape, self.stride)


Source: TypeAlias = View | torch.Tensor  # of an initializer

_ARITHMETIC: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {
    "Add": torch.add,
    "Sub": torch.sub,
    "Mul": torch.mul,
    "Div": lambda a, b: torch.div(a, b, rounding_mode="trunc"),
}


def fold(model: ModelProto, weights: Mapping[str, Sequence[int]]) -> dict[str, Source]:
    """Removes from the graph constants, views of weights, and everything that known sizes decide.

    `weights` are the shapes of inputs of the graph, by name. Returns what the remaining nodes read,
    by the names there: weights are named as in the checkpoint, followed by the operator if one was
    folded (`….to_q.weight.Transpose`), short constants by their value (`int64 [0, 2, -1]`).
    """
    graph = model.graph
    # On the meta device weights have shapes and strides, and no values.
    values = {name: torch.empty(*shape, device="meta") for name, shape in weights.items()}
    facts = _Facts(_shapes_in(model), {node.output[0]: node for node in graph.node}, values)
    names = {name: name.removeprefix(MODEL_PREFIX) for name in weights}
    viewed = dict(names)  # the weight of each view
    views: Tensors = {}  # by their names
    nodes = []
    for node in graph.node:
        tensor = facts.value_of(node)
        if tensor is not None:
            output = node.output[0]
            names[output] = _name(node, tensor, names, views)
            values[output] = tensor
            if tensor.is_meta:
                viewed[output] = viewed[node.input[0]]
            continue
        nodes.append(facts.single_size(node) or node)
        target = facts.target_of(node)
        if target is not None:
            shape = node.input[1] = f"{node.output[0]}.shape"
            values[shape], names[shape] = target, _literal(target)
    del graph.node[:]
    graph.node.extend(_needed(nodes, {value.name for value in graph.output}))
    sources: dict[str, Source] = {}
    for node in graph.node:
        for place, name in enumerate(node.input):
            if name in values:
                node.input[place] = names[name]
                sources[names[name]] = _source(values[name], viewed.get(name))
    return sources


def _source(tensor: torch.Tensor, weight: str | None) -> Source:
    if weight is None:
        return tensor
    return View(weight, tuple(tensor.shape), tensor.stride())


@dataclass(frozen=True)
class _Facts:
    """The known facts about a graph. Names are those of the traced graph."""

    shapes: Mapping[str, Dims]
    producers: Mapping[str, NodeProto]
    values: Tensors  # grows from the inputs to the outputs

    def value_of(self, node: NodeProto) -> torch.Tensor | None:
        """The node's output if it is known, else None."""
        if node.op_type == "Constant":
            return torch.from_numpy(numpy_helper.to_array(node.attribute[0].t).copy())
        if node.op_type == "Shape":
            return _tensor_from_dims(self.shapes.get(node.input[0]))
        if node.op_type == "Gather" and self.sizes_behind(node):
            dims, index = self.sizes_behind(node), self.values[node.input[1]]
            chosen = _tensor_from_dims([dims[i] for i in index.flatten().tolist()])
            return None if chosen is None else chosen.reshape(index.shape)
        if all(name in self.values for name in node.input):
            return _computed(node, [self.values[name] for name in node.input])
        return None

    def sizes_behind(self, gather: NodeProto) -> Dims:
        """The shape from which a Gather picks known places; empty for any other node."""
        shape = self.producers.get(gather.input[0])
        if shape is None or shape.op_type != "Shape" or gather.input[1] not in self.values:
            return ()
        return self.shapes.get(shape.input[0], ())

    def single_size(self, node: NodeProto) -> NodeProto | None:
        """One node for Shape, Gather and Unsqueeze if they read a single size, else None."""
        gather = self.producers.get(node.input[0]) if node.op_type == "Unsqueeze" else None
        if gather is None or gather.op_type != "Gather" or not self.sizes_behind(gather):
            return None
        index = self.values[gather.input[1]]
        if index.ndim != 0 or index < 0:
            return None
        (source,) = self.producers[gather.input[0]].input
        axis = int(index)
        return helper.make_node("Shape", [source], list(node.output), start=axis, end=axis + 1)

    def target_of(self, node: NodeProto) -> torch.Tensor | None:
        """The target shape of a Reshape if it can be a constant, else None."""
        if node.op_type != "Reshape":
            return None
        before, after = (self.shapes.get(name, ()) for name in (node.input[0], node.output[0]))
        target = [_target_size(dim, axis, before) for axis, dim in enumerate(after)]
        return torch.tensor(target) if target and target.count(-1) <= 1 else None


def _target_size(dim: int | str, axis: int, before: Dims) -> int:
    """A Reshape's number for one axis: the size, 0 if it is unchanged, -1 if it is unknown."""
    if isinstance(dim, int):
        return dim
    stays = dim != "" and axis < len(before) and before[axis] == dim
    return 0 if stays else -1


def _shapes_in(model: ModelProto) -> dict[str, Dims]:
    """The known facts about each tensor's shape."""
    graph = onnx.shape_inference.infer_shapes(model, data_prop=True).graph
    return {
        value.name: [
            dim.dim_value if dim.HasField("dim_value") else dim.dim_param
            for dim in value.type.tensor_type.shape.dim
        ]
        for value in (*graph.input, *graph.value_info, *graph.output)
        if value.type.tensor_type.HasField("shape")
    }


def _tensor_from_dims(dims: Dims | None) -> torch.Tensor | None:
    """The sizes as a tensor if each is a number, else None."""
    if dims is None or any(isinstance(dim, str) for dim in dims):
        return None
    return torch.tensor(dims, dtype=torch.int64)


def _computed(node: NodeProto, inputs: list[torch.Tensor]) -> torch.Tensor | None:
    """The result of a view of weights or of arithmetic on sizes; None for any other node."""
    first, *others = inputs
    match node.op_type:
        case "Transpose":
            return first.permute(*node.attribute[0].ints)
        case "Unsqueeze":
            for axis in sorted(others[0].tolist()):
                first = first.unsqueeze(axis)
            return first
        case "Concat" if first.ndim == 1 and first.dtype == torch.int64:
            return torch.cat(inputs)
        case op if op in _ARITHMETIC and first.dtype == torch.int64:
            return _ARITHMETIC[op](first, *others)
    return None


def _needed(nodes: Sequence[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """The nodes that the outputs depend on."""
    needed, wanted = [], set(outputs)
    for node in reversed(nodes):
        if wanted & set(node.output):
            needed.append(node)
            wanted |= set(node.input)
    return needed[::-1]


def _name(node: NodeProto, tensor: torch.Tensor, names: Mapping[str, str], views: Tensors) -> str:
    """The tensor's name; `views` holds the views that already have names."""
    if tensor.numel() <= 4 and not tensor.is_floating_point():
        return _literal(tensor)
    viewed = names.get(node.input[0]) if node.input else None
    if viewed is None:
        return str(node.output[0])
    view = f"{viewed}.{node.op_type}"
    other = views.setdefault(view, tensor)
    if (other.shape, other.stride()) == (tensor.shape, tensor.stride()):
        return view
    # A weight that several layers share may have several views.
    return f"{view} {list(tensor.shape)} {list(tensor.stride())}"


def _literal(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {tensor.tolist()}"
