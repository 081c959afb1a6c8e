"""Passes that fuse norms with their neighbours: an activation, or the sum that they take.

Each leaves unknown patterns unchanged. The patterns are those that `onnx_from_network` writes.
"""

from __future__ import annotations

from dataclasses import dataclass

from onnx import NodeProto, TensorProto

from sdrt_export.fusing.editor import FusionEditor, attributes_of, contrib
from sdrt_export.fusing.product_fusions import biased_sum


def fuse_group_norm(graph: FusionEditor) -> None:
    """Group norm and the SiLU after it; GroupNorm computes its sums in float32.

    The new node is channels-first, which has no kernel: `to_channels_last` turns it.
    """
    for norm in graph.nodes:
        if norm.op_type == "InstanceNormalization":
            _fuse_group_norm_at(graph, norm)
    graph.commit()


def _fuse_group_norm_at(graph: FusionEditor, norm: NodeProto) -> None:
    before, after = _groups_before(graph, norm), _scaling_behind(graph, norm)
    if before is None or after is None or after.shape.input[0] != before[0]:
        return
    x, groups, nodes = before
    nodes += [norm, *after.nodes]
    if graph.taker(after.shape.output[0], "Reshape"):
        nodes.append(after.shape)
    last, silu = after.nodes[-1], _silu_behind(graph, after.nodes[-1].output[0])
    if silu:
        nodes += silu
        last = silu[1]
    vectors = [
        graph.add_view(name, "vector", lambda array: array.ravel(), TensorProto.FLOAT)
        for name in (after.gamma, after.beta)
    ]
    fused = contrib(
        "GroupNorm",
        [x, *vectors],
        [last.output[0]],
        epsilon=attributes_of(norm).get("epsilon", 1e-5),
        groups=groups,
        activation=int(bool(silu)),
        channels_last=0,
    )
    graph.replace(nodes, last, fused)


def _groups_before(graph: FusionEditor, norm: NodeProto) -> tuple[str, int, list[NodeProto]] | None:
    """The normalised tensor (B, C, h, w), the number of groups, and the nodes that flatten it."""
    cast = graph.maker(norm.input[0], "Cast")
    flat = graph.maker(cast.input[0] if cast is not None else norm.input[0], "Reshape")
    target = graph.ints(flat.input[1]) if flat is not None else None
    if flat is None or target is None or len(target) != 3 or target[0] != 0:
        return None
    x, groups = flat.input[0], target[1]
    shape = graph.shapes.get(x, ())
    channels = shape[1] if len(shape) == 4 else None
    if not isinstance(channels, int) or channels % groups or channels // groups % 2:
        return None  # the kernel takes pairs of channels
    return x, groups, [flat] if cast is None else [cast, flat]


@dataclass(frozen=True)
class _Scaling:
    """The nodes after a group norm: the old shape again, a weight and a bias per channel."""

    nodes: list[NodeProto]  # except `shape`, which others may need
    shape: NodeProto
    gamma: str
    beta: str


def _scaling_behind(graph: FusionEditor, norm: NodeProto) -> _Scaling | None:
    cast = graph.taker(norm.output[0], "Cast")
    whole = graph.taker(cast.output[0] if cast is not None else norm.output[0], "Reshape")
    shape = graph.maker(whole.input[1], "Shape") if whole is not None else None
    scaled = graph.taker(whole.output[0], "Mul") if whole is not None else None
    shifted = graph.taker(scaled.output[0], "Add") if scaled is not None else None
    if whole is None or shape is None or scaled is None or shifted is None:
        return None
    gamma, beta = graph.split_weight(scaled), graph.split_weight(shifted)
    if gamma is None or beta is None:
        return None
    nodes = [whole, scaled, shifted]
    return _Scaling(nodes if cast is None else [cast, *nodes], shape, gamma[1], beta[1])


def _silu_behind(graph: FusionEditor, name: str) -> list[NodeProto]:
    """The Sigmoid and the Mul, if nothing else takes the tensor."""
    takers = graph.consumers[name]
    sigmoid = next((node for node in takers if node.op_type == "Sigmoid"), None)
    if len(takers) != 2 or sigmoid is None or name in graph.outputs:
        return []
    product = graph.taker(sigmoid.output[0], "Mul")
    if product is None or set(product.input) != {name, sigmoid.output[0]}:
        return []
    return [sigmoid, product]


def fuse_skip_layer_norm(graph: FusionEditor) -> None:
    """A sum of residual, product and bias with a layer norm after it."""
    fused_sums = set()  # a second norm (text encoders have one) takes the first's sum
    for norm in graph.nodes:
        has_bias = norm.op_type == "LayerNormalization" and len(norm.input) == 3
        total = graph.maker(norm.input[0], "Add") if has_bias else None
        found = biased_sum(graph, total) if total is not None else None
        if total is None or found is None or attributes_of(norm).get("axis", -1) != -1:
            continue
        if total.output[0] in fused_sums:
            continue
        fused_sums.add(total.output[0])
        product, bias, residual, biased = found
        fused = contrib(
            "SkipLayerNormalization",
            [product, residual, norm.input[1], norm.input[2], bias],
            [norm.output[0], "", "", total.output[0]],
            epsilon=attributes_of(norm).get("epsilon", 1e-5),
        )
        graph.replace([norm, total, biased], total, fused)
    graph.commit()


def fuse_skip_group_norm(graph: FusionEditor) -> None:
    """A sum of a convolution with a residual or a time embedding, and the group norm after it."""
    for norm in graph.nodes:
        total = graph.maker(norm.input[0], "Add") if norm.op_type == "GroupNorm" else None
        if total is not None:
            _fuse_skip_group_norm_at(graph, norm, total)
    graph.commit()


def _fuse_skip_group_norm_at(graph: FusionEditor, norm: NodeProto, total: NodeProto) -> None:
    conv, name, skip = next(
        (
            (conv, name, skip)
            for name, skip in (total.input, reversed(total.input))
            if (conv := graph.maker(name, "NhwcConv")) is not None
        ),
        (None, "", ""),
    )
    if conv is None or skip in graph.weights:
        return
    embedding = _row_vector(graph, skip)
    alone = len(graph.consumers[total.output[0]]) == 1 and total.output[0] not in graph.outputs
    if embedding is not None and not alone:  # a broadcast sum is not an output
        return
    convs = [conv, graph.maker(skip, "NhwcConv")]
    biases = [bias for node in convs if node is not None for bias in _bias_taken(graph, node)]
    bias = biases
    if len(biases) == 2:
        bias = [graph.add_combined(biases, "sum", lambda arrays: arrays[0] + arrays[1])]
    inputs = [name, norm.input[1], norm.input[2], embedding or skip, *bias]
    outputs = [norm.output[0]] if alone else [norm.output[0], total.output[0]]
    fused = contrib("SkipGroupNorm", inputs, outputs)
    fused.attribute.extend(norm.attribute)
    graph.replace([norm, total], total, fused)


def _bias_taken(graph: FusionEditor, conv: NodeProto) -> list[str]:
    """Removes the bias from a convolution whose result only a sum takes."""
    if len(conv.input) < 3 or graph.taker(conv.output[0], "Add") is None:
        return []
    return [conv.input.pop()]


def _row_vector(graph: FusionEditor, name: str) -> str | None:
    """The (B, D) tensor whose view (B, 1, 1, D) this one is."""
    turned = graph.maker(name, "Transpose")
    if turned is None:
        return None
    name = turned.input[0]
    for _ in range(2):
        grown = graph.maker(name, "Unsqueeze")
        if grown is None:
            return None
        name = grown.input[0]
    return name if len(graph.shapes.get(name, ())) == 2 else None
