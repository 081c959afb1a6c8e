"""Passes that fuse matrix products with their neighbours: attention, gates, biases.

Each leaves unknown patterns unchanged. The patterns are those that `onnx_from_network` writes.
"""

from __future__ import annotations

import math
from collections import defaultdict

import numpy as np
from onnx import NodeProto, helper

from sdrt_export.fusing.editor import FusionEditor, attributes_of, contrib

# The widths that the CUDA kernels of BiasSplitGelu support: Stable Diffusion's feed-forward layers.
SPLIT_GELU_WIDTHS = (1280, 2560, 5120)
# Fewer products are not worth the copies of a Split. With more outputs, ONNX Runtime's Split
# copies the addresses from the host in each run, which a captured graph cannot contain.
MIN_SPLIT, MAX_SPLIT = 4, 32


def fuse_attention(graph: FusionEditor) -> None:
    """softmax(QKᵀ / √d) V as MultiHeadAttention, which writes no (L, L) matrix to memory."""
    for softmax in graph.nodes:
        if softmax.op_type == "Softmax":
            _fuse_attention_at(graph, softmax)
    graph.commit()


def _fuse_attention_at(graph: FusionEditor, softmax: NodeProto) -> None:
    scores = graph.maker(softmax.input[0], "MatMul")
    product = graph.taker(softmax.output[0], "MatMul")
    if scores is None or product is None or product.input[0] != softmax.output[0]:
        return
    q = _heads(graph, scores.input[0], [0, 2, 1, 3])
    k = _heads(graph, scores.input[1], [0, 2, 3, 1])
    v = _heads(graph, product.input[1], [0, 2, 1, 3])
    turned = graph.taker(product.output[0], "Transpose")
    merged = graph.taker(turned.output[0], "Reshape") if turned is not None else None
    if not (q and k and v and turned and merged):
        return
    if attributes_of(turned)["perm"] != [0, 2, 1, 3] or len({q[1:3], k[1:3], v[1:3]}) != 1:
        return
    query, heads, dim, query_nodes = q
    if (graph.ints(merged.input[1]) or [])[1:] != [-1, heads * dim]:
        return
    scale, scaled = 1.0, graph.maker(query, "Mul")
    parts = graph.split_weight(scaled) if scaled is not None else None
    factor = graph.scalar(parts[1]) if parts is not None else None
    nodes = [softmax, scores, product, turned, merged, *query_nodes, *k[3], *v[3]]
    if scaled is not None and parts is not None and factor is not None:
        query, scale = parts[0], factor
        if graph.taker(scaled.output[0], "Reshape"):
            nodes.append(scaled)
    if abs(scale * math.sqrt(dim) - 1) < 1e-3:  # rounded to half precision
        scale = 1 / math.sqrt(dim)
    inputs = [query, k[0], v[0]]
    fused = contrib("MultiHeadAttention", inputs, [merged.output[0]], num_heads=heads, scale=scale)
    graph.replace(nodes, merged, fused)


def _heads(
    graph: FusionEditor, name: str, perm: list[int]
) -> tuple[str, int, int, list[NodeProto]] | None:
    """The tensor that was split into heads, the number of heads, their width, and the nodes."""
    turned = graph.maker(name, "Transpose")
    split = graph.maker(turned.input[0], "Reshape") if turned is not None else None
    target = graph.ints(split.input[1]) if split is not None else None
    if turned is None or split is None or target is None or target[:2] != [0, -1]:
        return None
    if len(target) != 4 or attributes_of(turned)["perm"] != perm:
        return None
    if len(graph.consumers[name]) != 1 or len(graph.consumers[turned.input[0]]) != 1:
        return None
    return split.input[0], target[2], target[3], [turned, split]


def fuse_split_gelu(graph: FusionEditor) -> None:
    """Bias, split in two, and left · gelu(right), as BiasSplitGelu."""
    for erf in graph.nodes:
        if erf.op_type == "Erf":
            _fuse_split_gelu_at(graph, erf)
    graph.commit()


def _fuse_split_gelu_at(graph: FusionEditor, erf: NodeProto) -> None:
    divided = graph.maker(erf.input[0], "Div")
    right = graph.maker(divided.input[0], "Slice") if divided is not None else None
    plus_one = graph.taker(erf.output[0], "Add")
    gated = graph.taker(plus_one.output[0], "Mul") if plus_one is not None else None
    halved = graph.taker(gated.output[0], "Mul") if gated is not None else None
    product = graph.taker(halved.output[0], "Mul") if halved is not None else None
    if not (divided and right and plus_one and gated and halved and product):
        return
    left_name = next(name for name in product.input if name != halved.output[0])
    left = graph.maker(left_name, "Slice")
    biased = graph.maker(right.input[0], "Add")
    parts = graph.split_weight(biased) if biased is not None else None
    if left is None or biased is None or parts is None or left.input[0] != right.input[0]:
        return
    width = graph.shapes.get(parts[1], (0,))[-1]
    assert isinstance(width, int)
    ranges = [graph.ints(node.input[i]) for node in (left, right) for i in (1, 2)]
    is_split = ranges == [[0], [width // 2], [width // 2], [width]]
    if not is_split or width // 2 not in SPLIT_GELU_WIDTHS:
        return
    if len(graph.consumers[biased.output[0]]) != 2:
        return
    nodes = [divided, erf, right, left, plus_one, gated, halved, product, biased]
    graph.replace(nodes, product, contrib("BiasSplitGelu", parts, [product.output[0]]))


def fuse_bias_add(graph: FusionEditor) -> None:
    """Other sums of residual, product and bias."""
    for total in graph.nodes:
        found = biased_sum(graph, total) if total.op_type == "Add" else None
        if found is not None:
            product, bias, residual, biased = found
            fused = contrib("BiasAdd", [product, bias, residual], [total.output[0]])
            graph.replace([total, biased], total, fused)
    graph.commit()


def biased_sum(graph: FusionEditor, total: NodeProto) -> tuple[str, str, str, NodeProto] | None:
    """Product, bias and residual of a sum over (B, L, D), and the node that adds the bias."""
    shapes = [graph.shapes.get(name, ()) for name in total.input]
    if [len(shape) for shape in shapes] != [3, 3] or shapes[0][2] != shapes[1][2]:
        return None
    for name, residual in (total.input, reversed(total.input)):
        biased = graph.maker(name, "Add")
        parts = graph.split_weight(biased) if biased is not None else None
        if biased is None or parts is None or graph.taker(name, "Add") is None:
            continue
        if graph.maker(parts[0], "MatMul") and len(graph.shapes.get(parts[1], ())) == 1:
            return *parts, residual, biased
    return None


def merge_projections(graph: FusionEditor) -> None:
    """Merges many small products with one tensor into a few large ones.

    All cross-attentions project the same text, and all residual blocks the same timestep embedding:
    dozens of launches of a few microseconds each.
    """
    groups: dict[tuple[object, ...], list[NodeProto]] = defaultdict(list)
    for node in graph.nodes:
        if node.op_type in ("MatMul", "Gemm") and node.input[1] in graph.weights:
            shapes = tuple(graph.shapes[name] for name in node.input[1:])
            kind = str(sorted(attributes_of(node).items()))
            groups[node.op_type, node.input[0], len(node.input), shapes, kind].append(node)
    for nodes in groups.values():
        for start in range(0, len(nodes), MAX_SPLIT):
            if len(nodes[start : start + MAX_SPLIT]) >= MIN_SPLIT:
                _merge(graph, nodes[start : start + MAX_SPLIT])
    graph.commit()


def _merge(graph: FusionEditor, nodes: list[NodeProto]) -> None:
    first = nodes[0]
    axis = 0 if attributes_of(first).get("transB") else 1
    product = NodeProto()
    product.CopyFrom(first)
    joined = (lambda arrays: np.concatenate(arrays, axis), lambda arrays: np.concatenate(arrays))
    for place in range(1, len(first.input)):
        names = [node.input[place] for node in nodes]
        product.input[place] = graph.add_combined(names, "joined", joined[place - 1])
    product.output[0] = f"{first.output[0]}.joined"
    outputs = [node.output[0] for node in nodes]
    split = helper.make_node("Split", [product.output[0]], outputs, axis=-1)
    graph.replace(nodes, first, product, split)
