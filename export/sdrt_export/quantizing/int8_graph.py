"""An int8 graph in ONNX's own form: QuantizeLinear and DequantizeLinear around float operators.

A library that has int8 kernels computes `Dequantize → Conv → Quantize` in one of them. One graph
serves ONNX Runtime and OpenVINO. Activations have one range for a tensor (uint8), weights one for
each output channel (int8, symmetric), biases are int32 in the product of both steps.

ONNX Runtime has no convolution of int8 with a result in float32, so the result of each convolution
is quantized, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import NodeProto, helper, numpy_helper

from sdrt_engines import Array
from sdrt_export.fusing.editor import FusionEditor
from sdrt_export.precision.typed_graph import Stored, TypedGraph
from sdrt_export.quantizing.int8_weights import Make, computed
from sdrt_export.quantizing.layers import Layer, layers_of
from sdrt_export.quantizing.ranges import Range


def opened(path: Path) -> FusionEditor:
    """The graph in the file at `path`, without its weights."""
    return FusionEditor(onnx.load(path, load_external_data=False), path.parent)


def tensors_to_measure(graph: FusionEditor) -> list[str]:
    """The tensors whose ranges an int8 graph needs."""
    return list(dict.fromkeys(name for layer in layers_of(graph) for name in layer.rounded))


def int8_graph(path: Path, ranges: Mapping[str, Range], kept: Collection[str]) -> TypedGraph:
    """The network in the file at `path` with all layers in int8 except those named in `kept`."""
    graph = opened(path)
    quantizing = _Quantizing(graph, ranges)
    for layer in layers_of(graph):
        if layer.name not in kept:
            quantizing.quantize(layer)
    graph.commit()
    return TypedGraph(graph.finish(), graph.weights)


def rounding(tensor: str, scale: str, zero: str, result: str) -> Iterator[NodeProto]:
    """`tensor` rounded to the numbers of a range, and float again."""
    steps = f"{result}.steps"
    yield helper.make_node("QuantizeLinear", [tensor, scale, zero], [steps])
    yield helper.make_node("DequantizeLinear", [steps, scale, zero], [result])


class _Quantizing:
    def __init__(self, graph: FusionEditor, ranges: Mapping[str, Range]) -> None:
        self.graph, self.ranges = graph, ranges
        self.sources: dict[str, str] = {}  # tensor → its dequantized form

    def quantize(self, layer: Layer) -> None:
        """Puts the layer in int8 in place of its node."""
        node = _copy(layer.node)
        new = [*self._source(layer.source), self._weight(layer)]
        node.input[0], node.input[1] = self.sources[layer.source], f"{layer.name}.weight"
        if layer.bias is not None and layer.adding is None:
            new.append(self._bias(layer))
            node.input[2] = f"{layer.name}.bias"
        elif layer.adding is not None:
            self._replace_added(layer, layer.adding)
        new.append(node)
        if node.op_type == "Conv":
            node.output[0] = f"{layer.name}.exact"
            new += self._rounded(node.output[0], layer.name, layer.name)
        self.graph.replace([layer.node], layer.node, *new)

    def _source(self, name: str) -> Iterator[NodeProto]:
        if name not in self.sources:
            self.sources[name] = f"{name}.int8"
            yield from self._rounded(name, self.sources[name], name)

    def _rounded(self, name: str, result: str, ranged: str) -> Iterator[NodeProto]:
        """The tensor `name` rounded to the 256 numbers of the range of `ranged`."""
        found, key = self.ranges[ranged], f"{ranged}.range"
        scale = self._constant(f"{key}.scale", np.asarray(found.scale))
        zero = self._constant(f"{key}.zero", np.asarray(found.zero_point))
        yield from rounding(name, scale, zero, result)

    def _weight(self, layer: Layer) -> NodeProto:
        return self._stored(
            layer,
            "weight",
            steps=lambda values: values.weight_steps,
            scales=lambda values: values.weight_scales,
            zeros=np.zeros(layer.num_channels, np.int8),
            axis=layer.axis,
        )

    def _bias(self, layer: Layer) -> NodeProto:
        return self._stored(
            layer,
            "bias",
            steps=lambda values: values.bias_steps,
            scales=lambda values: values.bias_scales,
            zeros=np.zeros(layer.num_channels, np.int32),
            axis=0,
        )

    def _stored(
        self, layer: Layer, what: str, *, steps: Make, scales: Make, zeros: Array, axis: int
    ) -> NodeProto:
        """The node that makes a weight or a bias float again, which no library executes."""
        step = self.ranges[layer.source].scale
        name = f"{layer.name}.{what}"
        self.graph.weights[f"{name}.steps"] = computed(layer, step, steps)
        self.graph.weights[f"{name}.scales"] = computed(layer, step, scales)
        zero = self._constant(f"{name}.zeros", zeros)
        inputs = [f"{name}.steps", f"{name}.scales", zero]
        return helper.make_node("DequantizeLinear", inputs, [name], axis=axis)

    def _replace_added(self, layer: Layer, adding: NodeProto) -> None:
        node = _copy(adding)
        node.input[1 - list(node.input).index(layer.name)] = f"{layer.name}.bias"
        self.graph.replace([adding], adding, self._bias(layer), node)

    def _constant(self, name: str, value: Array) -> str:
        tensor = numpy_helper.from_array(value, name)
        self.graph.weights[name] = Stored(tensor, tensor.data_type)
        return name


def _copy(node: NodeProto) -> NodeProto:
    new = NodeProto()
    new.CopyFrom(node)
    return new
