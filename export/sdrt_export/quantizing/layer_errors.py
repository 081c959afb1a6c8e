"""The error that layers would cause in int8, each alone, found without an int8 network.

One network in float has a switch for each layer, which rounds what the layer reads and, for a
convolution, its result. So it is opened once for all of them. Weights are not rounded: with a step
for each channel they cause little of the error.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from sdrt.arrays import psnr_of
from sdrt_engines import Array
from sdrt_export.precision.probing import tensors_of
from sdrt_export.quantizing.int8_graph import opened, rounding
from sdrt_export.quantizing.layers import Layer, layers_of
from sdrt_export.quantizing.ranges import Range
from sdrt_export.quantizing.recorded_calls import Call


def errors_of(
    network: Path, ranges: Mapping[str, Range], groups: Sequence[Collection[str]], call: Call
) -> Iterator[float]:
    """The mean square error for each group of layers, in the output where it is largest, relative
    to the output's range. Errors of groups without common layers add up."""
    graph = opened(network)
    layers = layers_of(graph)
    switched = _with_switches(graph.model, layers, ranges)
    cases = (call.feeds | _switches(layers, group) for group in groups)
    for outputs in tensors_of(switched, network.parent, list(call.outputs), cases, fast=True):
        yield max(
            10 ** (-psnr_of(expected, outputs[name]) / 10)
            for name, expected in call.outputs.items()
        )


def _switches(layers: Sequence[Layer], rounded: Collection[str]) -> dict[str, Array]:
    return {_switch(layer): np.array(layer.name in rounded) for layer in layers}


def _switch(layer: Layer) -> str:
    return f"{layer.name}.switch"


def _with_switches(
    model: ModelProto, layers: Sequence[Layer], ranges: Mapping[str, Range]
) -> ModelProto:
    switched = ModelProto()
    switched.CopyFrom(model)
    graph, by_name = switched.graph, {layer.name: layer for layer in layers}
    del graph.node[:]
    for node in model.graph.node:
        layer = by_name.get(node.output[0])
        graph.node.extend([node] if layer is None else _switched(layer))
    for layer in layers:
        graph.input.append(helper.make_tensor_value_info(_switch(layer), TensorProto.BOOL, []))
    for name in dict.fromkeys(name for layer in layers for name in layer.rounded):
        scale, zero = _steps(name)
        graph.initializer.append(numpy_helper.from_array(np.asarray(ranges[name].scale), scale))
        graph.initializer.append(numpy_helper.from_array(np.asarray(ranges[name].zero_point), zero))
    return switched


def _switched(layer: Layer) -> Iterator[NodeProto]:
    node = NodeProto()
    node.CopyFrom(layer.node)
    node.input[0] = f"{layer.name}.source"
    yield from _rounding(layer, layer.source, layer.source, node.input[0])
    if layer.name in layer.rounded:
        node.output[0] = f"{layer.name}.exact"
    yield node
    if layer.name in layer.rounded:
        yield from _rounding(layer, layer.name, node.output[0], layer.name)


def _rounding(layer: Layer, ranged: str, tensor: str, result: str) -> Iterator[NodeProto]:
    """`tensor` as it is, or rounded to the 256 numbers of the range of `ranged`."""
    rounded = f"{result}.rounded"
    yield from rounding(tensor, *_steps(ranged), rounded)
    yield helper.make_node("Where", [_switch(layer), rounded, tensor], [result])


def _steps(ranged: str) -> tuple[str, str]:
    """The names of the step between two numbers and of that of 0."""
    return f"{ranged}.scale", f"{ranged}.zero"
