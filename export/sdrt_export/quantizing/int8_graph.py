"""An int8 graph in ONNX's own form: QuantizeLinear and DequantizeLinear around float operators.

A library that has int8 kernels computes `Dequantize → Conv → Quantize` in one of them. One graph
serves ONNX Runtime and OpenVINO. Activations have one range for a tensor (uint8), weights one for
each output channel (int8, symmetric), biases are int32 in the product of both steps.

ONNX Runtime has no convolution of int8 with a result in float32, so the result of each convolution
is quantized, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from functools import partial
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from sdrt_engines import Array
from sdrt_export.fusing.editor import FusionEditor
from sdrt_export.precision.float_graph import FLOAT
from sdrt_export.precision.typed_graph import Combined, Stored, TypedGraph, write_typed
from sdrt_export.quantizing.layers import (
    Layer,
    layers_of,
    rounded_to_int8,
    scales_of,
    stored_weight,
)
from sdrt_export.quantizing.ranges import Range


def opened(path: Path) -> FusionEditor:
    """The graph in the file at `path`, without its weights."""
    return FusionEditor(onnx.load(path, load_external_data=False), path.parent)


def tensors_to_measure(graph: FusionEditor) -> list[str]:
    """The tensors whose ranges an int8 graph needs."""
    layers = layers_of(graph)
    results = [layer.name for layer in layers if layer.node.op_type == "Conv"]
    return list(dict.fromkeys([*(layer.source for layer in layers), *results]))


def int8_graph(path: Path, ranges: Mapping[str, Range], kept: Collection[str]) -> TypedGraph:
    """The network in the file at `path` with all layers in int8 except those named in `kept`."""
    graph = opened(path)
    quantizing = _Quantizing(graph, ranges)
    for layer in layers_of(graph):
        if layer.name not in kept:
            quantizing.quantize(layer)
    graph.commit()
    return TypedGraph(graph.finish(), graph.weights)


def write_int8(typed: TypedGraph, network: Path, folder: Path) -> Path:
    """Writes the graph and its weights into `folder`; `network` is the file that it was made of."""
    return write_typed(typed, network.parent, folder)


class _Quantizing:
    def __init__(self, graph: FusionEditor, ranges: Mapping[str, Range]) -> None:
        self.graph, self.ranges = graph, ranges
        self.sources: dict[str, str] = {}  # tensor → its dequantized form

    def quantize(self, layer: Layer) -> None:
        """Puts the layer in int8 in place of its node."""
        new = [*self._source(layer.source)]
        node = NodeProto()
        node.CopyFrom(layer.node)
        node.input[0] = self.sources[layer.source]
        weight, nodes = self._weight(layer)
        node.input[1] = weight
        new += nodes
        if len(node.input) > 2:
            node.input[2], nodes = self._bias(layer, node.input[2])
            new += nodes
        elif (adding := self._adding(layer)) is not None:
            self._replace_added(layer, adding)
        if node.op_type == "Conv":
            node.output[0] = f"{layer.name}.exact"
            new += [node, *self._rounded(node.output[0], layer.name, layer.name)]
        else:
            new.append(node)
        self.graph.replace([layer.node], layer.node, *new)

    def _source(self, name: str) -> Iterator[NodeProto]:
        if name not in self.sources:
            self.sources[name] = f"{name}.int8"
            yield from self._rounded(name, self.sources[name], name)

    def _rounded(self, name: str, result: str, ranged: str) -> Iterator[NodeProto]:
        """The tensor `name` rounded to the 256 numbers of its range."""
        found, key = self.ranges[ranged], f"{ranged}.range"
        scale = self._constant(f"{key}.scale", np.asarray(found.scale))
        zero = self._constant(f"{key}.zero", np.asarray(found.zero_point))
        steps = f"{result}.steps"
        yield helper.make_node("QuantizeLinear", [name, scale, zero], [steps])
        yield helper.make_node("DequantizeLinear", [steps, scale, zero], [result])

    def _weight(self, layer: Layer) -> tuple[str, list[NodeProto]]:
        name = f"{layer.name}.weight"
        size = layer.weight.dims[layer.axis]
        self.graph.weights[f"{name}.steps"] = layer.part(rounded_to_int8)
        self.graph.weights[f"{name}.scale"] = layer.part(scales_of)
        zero = self._constant(f"{name}.zero", np.zeros(size, np.int8))
        inputs = [f"{name}.steps", f"{name}.scale", zero]
        return name, [helper.make_node("DequantizeLinear", inputs, [name], axis=layer.axis)]

    def _adding(self, layer: Layer) -> NodeProto | None:
        """The node that adds the bias to a product."""
        users = self.graph.consumers[layer.name]
        if len(users) != 1 or users[0].op_type != "Add":
            return None
        (user,) = users
        added = [stored_weight(self.graph, name) for name in user.input]
        size = layer.weight.dims[layer.axis]
        return user if any(w is not None and list(w.dims) == [size] for w in added) else None

    def _replace_added(self, layer: Layer, adding: NodeProto) -> None:
        place = 1 - list(adding.input).index(layer.name)
        node = NodeProto()
        node.CopyFrom(adding)
        node.input[place], nodes = self._bias(layer, adding.input[place])
        self.graph.replace([adding], adding, *nodes, node)

    def _bias(self, layer: Layer, bias: str) -> tuple[str, list[NodeProto]]:
        stored = stored_weight(self.graph, bias)
        if stored is None:
            return bias, []
        name, step = f"{layer.name}.bias", self.ranges[layer.source].scale
        parts = Stored(stored, FLOAT), layer.part(partial(_bias_scales, step))
        self.graph.weights[f"{name}.steps"] = Combined(parts, _bias_steps)
        self.graph.weights[f"{name}.scale"] = parts[1]
        zero = self._constant(f"{name}.zero", np.zeros(stored.dims[0], np.int32))
        inputs = [f"{name}.steps", f"{name}.scale", zero]
        return name, [helper.make_node("DequantizeLinear", inputs, [name], axis=0)]

    def _constant(self, name: str, value: Array) -> str:
        tensor = numpy_helper.from_array(value, name)
        self.graph.weights[name] = Stored(tensor, tensor.data_type)
        return name


def _bias_scales(step: np.float32, weight: Array, axis: int) -> Array:
    return scales_of(weight, axis) * step


def _bias_steps(parts: Array) -> Array:
    bias, scales = parts
    limit = 2**31 - 1
    return np.clip(np.rint(bias.astype(np.float64) / scales), -limit, limit).astype(np.int32)
