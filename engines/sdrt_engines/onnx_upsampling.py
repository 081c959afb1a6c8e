"""ONNX files with their convolutions before the upsampling that precedes them: see `upsampling`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from sdrt_engines.onnx_graph import GRAPH, NODE, Graph, Node
from sdrt_engines.onnx_nodes import name_field, node_field, weight_field
from sdrt_engines.protobuf import bytes_field, edited, fields_of, message_of, messages_of
from sdrt_engines.tensor import Array
from sdrt_engines.upsampling import PHASES, added_taps, pads_of

_NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
_DOUBLED = [1, 1, 2, 2]
_SAME_SIZE = {  # the values that an attribute may have, empty for its default
    "kernel_shape": ([3, 3],),
    "pads": ([1, 1, 1, 1],),
    "strides": ([], [1, 1]),
    "dilations": ([], [1, 1]),
    "group": ([], [1]),
}

# New weights: shapes, in which 0 keeps a size, and the sums of each phase.
_TO_ROWS, _TO_KERNEL = "upsampling.to_rows", "upsampling.to_kernel"
_ADDED = {phase: f"upsampling.added_taps.{phase}" for phase in PHASES}
_WEIGHTS: Mapping[str, Array] = {
    _TO_ROWS: np.array([0, 0, 9]),  # (out, in, 9)
    _TO_KERNEL: np.array([0, 0, 2, 2]),
    **{name: added_taps(phase) for phase, name in _ADDED.items()},
}


def with_convolutions_first(model: memoryview) -> bytes | None:
    """The ONNX file with such convolutions first; None if it has none. The new kernels are computed
    in the graph, from constants alone: a session does that once, when it is made.
    """
    message = message_of(model, GRAPH)
    if not _scales(message):
        return None
    sources = _sources_of_convolutions(Graph(message), bytes(message))
    if not sources:
        return None

    def node(encoded: memoryview) -> bytes:
        found = Node.of(encoded)
        if not sources.keys().isdisjoint(found.outputs):
            return b""
        if sources.keys().isdisjoint(found.inputs):
            return bytes_field(NODE, encoded)
        return b"".join(_convolutions(found, sources[found.input(0)]))

    graph = edited(message, {NODE: node})
    weights = b"".join(weight_field(name, array) for name, array in _WEIGHTS.items())
    return edited(model, {GRAPH: lambda old: bytes_field(GRAPH, graph + weights)})


def _scales(graph: memoryview) -> bool:
    """True if it changes a size by factors, which a UNet does not; the other nodes are not read."""
    nodes = messages_of(fields_of(graph), NODE)
    resizes = (Node.of(node) for node in nodes if b"Resize" in bytes(node))
    return any(node.operator == "Resize" and node.input(2) for node in resizes)


def _sources_of_convolutions(graph: Graph, content: bytes) -> dict[str, str]:
    """The upsampled tensors that only such a convolution reads, and what they were made from."""
    convolutions = (node for node in graph.nodes if _keeps_size(node))
    upsamplings = (graph.maker(node.input(0), "Resize") for node in convolutions)
    return {
        node.outputs[0]: node.input(0)
        for node in upsamplings
        if node is not None
        and _doubles(graph, node)
        and content.count(name_field(node.outputs[0])) == 1  # graphs inside nodes included
    }


def _keeps_size(node: Node) -> bool:
    return (
        node.operator == "Conv"
        and node.text("auto_pad") in ("", "NOTSET")
        and all(node.integers(name) in values for name, values in _SAME_SIZE.items())
    )


def _doubles(graph: Graph, resize: Node) -> bool:
    scales = graph.maker(resize.input(2), "Concat")
    parts = [graph.constant(name) for name in (scales.inputs if scales else resize.inputs[2:3])]
    found = [value for part in parts if part is not None for value in part.tolist()]
    return found == _DOUBLED and all(resize.text(name) == text for name, text in _NEAREST.items())


def _convolutions(convolution: Node, source: str) -> Iterator[bytes]:
    """The nodes in its place, from the tensor `source` before upsampling."""
    _, kernel, *bias = convolution.inputs
    (output,) = convolution.outputs
    rows, parts = f"{output}.rows", [f"{output}.{row}{column}" for row, column in PHASES]
    yield node_field("Reshape", [kernel, _TO_ROWS], [rows])
    for phase, part in zip(PHASES, parts, strict=True):
        taps, new_kernel = f"{part}.taps", f"{part}.kernel"
        yield node_field("MatMul", [rows, _ADDED[phase]], [taps])
        yield node_field("Reshape", [taps, _TO_KERNEL], [new_kernel])
        inputs, pads = [source, new_kernel, *bias], pads_of(phase)
        yield node_field("Conv", inputs, [part], kernel_shape=(2, 2), pads=pads)
    yield node_field("Concat", parts, [f"{output}.parts"], axis=1)
    yield node_field("DepthToSpace", [f"{output}.parts"], [output], blocksize=2, mode="DCR")
