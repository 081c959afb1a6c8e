"""ONNX files with their convolutions before the upsampling that precedes them: see `upsampling`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sdrt_engines.onnx_graph import GRAPH, NODE, Graph, Node
from sdrt_engines.onnx_nodes import Nodes, name_field
from sdrt_engines.onnx_products import by_products
from sdrt_engines.protobuf import bytes_field, edited, fields_of, message_of, messages_of
from sdrt_engines.upsampling import PHASES, added_taps, pads_of

_NEAREST = {
    "mode": "nearest",
    "coordinate_transformation_mode": "asymmetric",
    "nearest_mode": "floor",
}
_DOUBLED = [1, 1, 2, 2]
_OF_SIZES = ("Concat", "Cast", "Slice", "Gather", "Unsqueeze")  # from shapes to a size
_BORDERED = {  # the values that an attribute may have, empty for its default
    "kernel_shape": ([3, 3],),
    "pads": ([1, 1, 1, 1],),
    "dilations": ([], [1, 1]),
    "group": ([], [1]),
}
_SAME_SIZE = _BORDERED | {"strides": ([], [1, 1])}
_HALF_SIZE = _BORDERED | {"strides": ([2, 2],)}  # rounded up


def with_convolutions_first(model: memoryview) -> bytes | None:
    """The ONNX file with such convolutions first; None if it has none. The new kernels are computed
    in the graph, from constants alone: a session does that once, when it is made.
    """
    message = message_of(model, GRAPH)
    if not _resizes(message):
        return None
    upsamplings = _upsamplings(Graph(message), bytes(message))
    if not upsamplings:
        return None

    def node(encoded: memoryview) -> bytes:
        found = Node.of(encoded)
        if not upsamplings.keys().isdisjoint(found.outputs):
            return b""
        if upsamplings.keys().isdisjoint(found.inputs):
            return bytes_field(NODE, encoded)
        return _convolution(found, upsamplings[found.input(0)])

    graph = edited(message, {NODE: node})
    return edited(model, {GRAPH: lambda old: bytes_field(GRAPH, graph)})


def _resizes(graph: memoryview) -> bool:
    """True if a node may be an upsampling; the nodes are not read."""
    return any(b"Resize" in bytes(node) for node in messages_of(fields_of(graph), NODE))


def _upsamplings(graph: Graph, content: bytes) -> dict[str, Node]:
    """The upsamplings whose results nothing but such a convolution takes, by their results."""
    convolutions = (node for node in graph.nodes if _is_convolution(node, _SAME_SIZE))
    found = (graph.maker(node.input(0), "Resize") for node in convolutions)
    return {
        node.outputs[0]: node
        for node in found
        if node is not None
        and all(node.text(name) == text for name, text in _NEAREST.items())
        and (_doubles(graph, node) or _is_of_halved(graph, node.input(3)))
        and content.count(name_field(node.outputs[0])) == 1  # graphs inside nodes included
    }


def _is_convolution(node: Node, attributes: Mapping[str, Sequence[list[int]]]) -> bool:
    return (
        node.operator == "Conv"
        and node.text("auto_pad") in ("", "NOTSET")
        and all(node.integers(name) in values for name, values in attributes.items())
    )


def _doubles(graph: Graph, resize: Node) -> bool:
    scales = graph.maker(resize.input(2), "Concat")
    parts = [graph.constant(name) for name in (scales.inputs if scales else resize.inputs[2:3])]
    found = [value for part in parts if part is not None for value in part.tolist()]
    return found == _DOUBLED


def _is_of_halved(graph: Graph, size: str) -> bool:
    """True for the shape of a skip connection."""
    if (shape := graph.maker(size, "Shape")) is not None:
        return _is_halved(graph, shape.input(0))
    made_of = (graph.maker(size, operator) for operator in _OF_SIZES)
    return any(_is_of_halved(graph, name) for node in made_of if node for name in node.inputs)


def _is_halved(graph: Graph, tensor: str) -> bool:
    """True if a convolution halves the tensor, or it is the sum of one and a ControlNet's."""
    added = graph.maker(tensor, "Add")
    tensors = (tensor, *(added.inputs if added else ()))
    users = (user for name in tensors for user in graph.users(name))
    return any(_is_convolution(user, _HALF_SIZE) for user in users)


def _convolution(convolution: Node, upsampling: Node) -> bytes:
    """The fields of the graph in place of both."""
    source, kernel, bias = upsampling.input(0), convolution.input(1), convolution.input(2)
    (output,) = convolution.outputs
    nodes = Nodes(output)
    if size := upsampling.input(3):
        by_products(nodes, output, source, size, kernel, bias)
    else:
        _by_phases(nodes, output, source, kernel, bias)
    return b"".join(nodes.fields)


def _by_phases(nodes: Nodes, output: str, source: str, kernel: str, bias: str) -> None:
    """Adds nodes that make `output`, the convolution of `source`, upsampled by 2."""
    taps, parts = nodes.add("Reshape", kernel, nodes.integers(0, 0, 9)), []
    shape = nodes.integers(0, 0, 2, 2)  # 0 keeps a size
    for phase in PHASES:
        added = nodes.add("MatMul", taps, nodes.weight(added_taps(phase)))
        inputs = [source, nodes.add("Reshape", added, shape), *[bias] * bool(bias)]
        parts.append(nodes.add("Conv", *inputs, kernel_shape=(2, 2), pads=pads_of(phase)))
    pixels = nodes.add("Concat", *parts, axis=1)
    nodes.add("DepthToSpace", pixels, blocksize=2, mode="DCR", output=output)
