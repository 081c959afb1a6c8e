"""An ONNX file with its convolutions before the upsampling that precedes them: see `upsampling`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from sdrt_engines.onnx_nodes import (
    GRAPH,
    NODE,
    Fields,
    Node,
    name_field,
    node_field,
    node_of,
    small_weights,
    weight_field,
)
from sdrt_engines.onnx_signature import onnx_message
from sdrt_engines.protobuf import bytes_field, edited, fields_of, message_of, messages_of
from sdrt_engines.tensor import Array
from sdrt_engines.upsampling import PHASES, added_taps, pads_of

_NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
_DOUBLED = [1, 1, 2, 2]
_PLAIN = {"strides": (1, 1), "dilations": (1, 1), "group": 1}  # defaults of a convolution
_SAME_SIZE = {"kernel_shape": (3, 3), "pads": (1, 1, 1, 1), **_PLAIN}
_WITH_SCALES = 3  # inputs of a Resize; one with a size has four

# New weights: shapes, in which 0 keeps a size, and the sums of each phase.
_TO_ROWS, _TO_KERNEL = "upsampling.to_rows", "upsampling.to_kernel"
_ADDED = {phase: f"upsampling.added_taps.{phase}" for phase in PHASES}
_WEIGHTS: Mapping[str, Array] = {
    _TO_ROWS: np.array([0, 0, 9]),  # (out, in, 9)
    _TO_KERNEL: np.array([0, 0, 2, 2]),
    **{name: added_taps(phase) for phase, name in _ADDED.items()},
}


def convolving_first(path: Path) -> bytes | None:
    """The ONNX file at `path` with such convolutions first; None if it has none. The new kernels
    are computed in the graph, from constants alone: backends do that once, when they open it.
    """
    with onnx_message(path) as message:
        sources = _sources_of_convolutions(message_of(message, GRAPH))
        if not sources:
            return None

        def node(encoded: memoryview) -> bytes:
            found = node_of(encoded)
            if not sources.keys().isdisjoint(found.outputs):
                return b""
            if sources.keys().isdisjoint(found.inputs):
                return bytes_field(NODE, encoded)
            new = _convolutions(found, sources[found.inputs[0]])
            return b"".join(node_field(each) for each in new)

        weights = b"".join(weight_field(name, array) for name, array in _WEIGHTS.items())
        return edited(
            message,
            {GRAPH: lambda graph: bytes_field(GRAPH, edited(graph, {NODE: node}) + weights)},
        )


def _sources_of_convolutions(graph: memoryview) -> dict[str, str]:
    """The upsampled tensors that only such a convolution reads, and what they were made from."""
    fields = list(fields_of(graph))
    nodes = list(messages_of(fields, NODE))
    sources = _upsampled(fields, nodes)
    if not sources:
        return {}
    content = bytes(graph)  # with the graphs that nodes hold
    convolutions = filter(_keeps_size, _nodes(nodes, "Conv"))
    return {
        name: sources[name]
        for name in (node.inputs[0] for node in convolutions)
        if name in sources and content.count(name_field(name)) == 1
    }


def _upsampled(graph: Fields, nodes: Sequence[memoryview]) -> dict[str, str]:
    """The results of nearest upsampling by 2, and what they were made from."""
    resizes = [node for node in _nodes(nodes, "Resize") if len(node.inputs) == _WITH_SCALES]
    if not resizes:
        return {}
    constants = small_weights(graph)
    for node in _nodes(nodes, "Concat"):
        if constants.keys() >= set(node.inputs):
            constants[node.outputs[0]] = np.concatenate([constants[name] for name in node.inputs])
    return {
        node.outputs[0]: node.inputs[0]
        for node in resizes
        if _NEAREST.items() <= node.attributes.items()
        and node.inputs[2] in constants
        and constants[node.inputs[2]].tolist() == _DOUBLED
    }


def _nodes(nodes: Iterable[memoryview], operator: str) -> Iterator[Node]:
    """The nodes with this operator and one output."""
    for encoded in nodes:
        if operator.encode() in bytes(encoded):
            node = node_of(encoded)
            if node.operator == operator and node.inputs and len(node.outputs) == 1:
                yield node


def _keeps_size(convolution: Node) -> bool:
    return {**_PLAIN, **convolution.attributes} == _SAME_SIZE and len(convolution.inputs) > 1


def _convolutions(convolution: Node, source: str) -> Iterator[Node]:
    """The nodes in its place, from the tensor `source` before upsampling."""
    _, kernel, *bias = convolution.inputs
    (output,) = convolution.outputs
    rows, parts = f"{output}.rows", [f"{output}.{row}{column}" for row, column in PHASES]
    yield Node("Reshape", [kernel, _TO_ROWS], [rows])
    for phase, part in zip(PHASES, parts, strict=True):
        yield Node("MatMul", [rows, _ADDED[phase]], [f"{part}.taps"])
        yield Node("Reshape", [f"{part}.taps", _TO_KERNEL], [f"{part}.kernel"])
        attributes = {"kernel_shape": (2, 2), "pads": pads_of(phase)}
        yield Node("Conv", [source, f"{part}.kernel", *bias], [part], attributes)
    yield Node("Concat", parts, [f"{output}.parts"], {"axis": 1})
    yield Node("DepthToSpace", [f"{output}.parts"], [output], {"blocksize": 2, "mode": "DCR"})
