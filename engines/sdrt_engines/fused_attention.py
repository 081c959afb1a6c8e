"""Fuses the attention of ONNX files for ONNX Runtime's CPU kernels.

An exported network computes softmax(Q Kᵀ s) V as two products with a softmax between them. As
`MultiHeadAttention`, ONNX Runtime computes it in blocks that fit the processor's cache
(FlashAttention, https://arxiv.org/abs/2205.14135): the matrix of scores, the largest array of a
UNet, never exists.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from sdrt_engines.onnx_graph import GRAPH, NODE, OPERATOR, Graph, Node
from sdrt_engines.onnx_nodes import node_field
from sdrt_engines.onnx_signature import onnx_message
from sdrt_engines.protobuf import bytes_field, edited, int_field, message_of
from sdrt_engines.regular_file import FileIdentity

_DOMAIN = "com.microsoft"
_OPERATOR_SET, _SET_DOMAIN, _SET_VERSION = 8, 1, 2
_LAST_AXES = ([-1], [3])
_TO_HEADS, _TO_KEYS = [0, 2, 1, 3], [0, 2, 3, 1]  # (B, L, heads, d) transposed
_WITH_BODIES = {"If", "Loop", "Scan", "SequenceMap"}  # which may take any tensor of the graph
_SOFTMAX = re.compile(re.escape(bytes_field(OPERATOR, b"Softmax")))
_LARGE = 2**26  # bytes: a file with its weights inside is not copied


def with_fused_attention(model: memoryview) -> bytes | None:
    """The ONNX file with its attention fused. None if it has none, its weights inside, or loops."""
    if len(model) > _LARGE:
        return None
    graph = Graph(message_of(model, GRAPH))
    if any(node.operator in _WITH_BODIES for node in graph.nodes):
        return None
    found = {node.outputs: _attention(graph, node) for node in graph.nodes}
    fused = {outputs: attention for outputs, attention in found.items() if attention is not None}
    if not fused:
        return None
    nodes = iter(_needed_nodes(graph, fused))
    edits = {GRAPH: lambda old: bytes_field(GRAPH, edited(old, {NODE: lambda node: next(nodes)}))}
    operators = bytes_field(_SET_DOMAIN, _DOMAIN.encode()) + int_field(_SET_VERSION, 1)
    return edited(model, edits) + bytes_field(_OPERATOR_SET, operators)


def fused_file(path: Path) -> bytes | None:
    """The ONNX file at `path` with its attention fused; None as above."""
    return _fused_file(path, FileIdentity.of(path.stat()))


@lru_cache(maxsize=4)  # a forecast of its memory, then its session
def _fused_file(path: Path, identity: FileIdentity) -> bytes | None:
    with onnx_message(path) as model:
        return with_fused_attention(model)


def keeps_scores(path: Path) -> bool:
    """True if matrices of scores are whole in memory when ONNX Runtime runs the network in this
    file: some attention in it is not of the kind that is fused."""
    with onnx_message(path) as model:
        return len(model) > _LARGE or _SOFTMAX.search(fused_file(path) or model) is not None


@dataclass(frozen=True)
class _Attention:
    """softmax(Q Kᵀ s) V, its factors (B, L, heads·d)."""

    query: str
    key: str
    value: str
    num_heads: int
    scale: float

    @property
    def inputs(self) -> tuple[str, ...]:
        return self.query, self.key, self.value

    def field(self, output: str) -> bytes:
        """The node as a field of its graph."""
        return node_field(
            "MultiHeadAttention",
            self.inputs,
            [output],
            domain=_DOMAIN,
            num_heads=self.num_heads,
            scale=self.scale,
        )


def _needed_nodes(graph: Graph, fused: Mapping[tuple[str, ...], _Attention]) -> list[bytes]:
    """The field of each node, an attention in place of the node that made its result; empty for
    nodes whose results nothing takes any more."""
    needed, fields = set(graph.outputs), []
    for node in reversed(graph.nodes):
        attention = fused.get(node.outputs)
        if needed.isdisjoint(node.outputs):
            fields.append(b"")
            continue
        needed.update(attention.inputs if attention else node.inputs)
        fields.append(
            attention.field(node.outputs[0]) if attention else bytes_field(NODE, node.message)
        )
    return fields[::-1]


def _attention(graph: Graph, merged: Node) -> _Attention | None:
    """The attention whose result the node makes by joining heads, if it does."""
    turned = graph.maker(merged.input(0), "Transpose") if merged.operator == "Reshape" else None
    product = graph.maker(turned.input(0), "MatMul") if turned else None
    softmax = graph.maker(product.input(0), "Softmax") if product else None
    scores = graph.maker(softmax.input(0), "MatMul") if softmax else None
    if not (turned and product and softmax and scores):
        return None
    query = _split(graph, scores.input(0), _TO_HEADS)
    key = _split(graph, scores.input(1), _TO_KEYS)
    value = _split(graph, product.input(1), _TO_HEADS)
    if not (query and key and value) or len({query.heads, key.heads, value.heads}) != 1:
        return None
    num_heads, dim = query.heads
    if (
        turned.integers("perm") != _TO_HEADS
        or softmax.integers("axis") not in _LAST_AXES
        or _target(graph, merged) != [0, -1, num_heads * dim]
    ):
        return None
    scaled, scale = _scaled(graph, query.source)
    return _Attention(scaled, key.source, value.source, num_heads, scale)


@dataclass(frozen=True)
class _Split:
    """A tensor (B, L, heads·d) that is split into heads."""

    source: str
    heads: tuple[int, int]  # number and width


def _split(graph: Graph, name: str, permutation: list[int]) -> _Split | None:
    turned = graph.maker(name, "Transpose")
    split = graph.maker(turned.input(0), "Reshape") if turned else None
    if not (turned and split) or turned.integers("perm") != permutation:
        return None
    match _target(graph, split):
        case [0, -1, int(number), int(width)] if number > 0 and width > 0:
            return _Split(split.input(0), (number, width))
    return None


def _target(graph: Graph, reshape: Node) -> list[int]:
    """The shape that a Reshape gives; empty if it is computed, or its zeros are sizes."""
    shape = graph.constant(reshape.input(1))
    if shape is None or reshape.integers("allowzero") not in ([], [0]):
        return []
    return [int(size) for size in shape]


def _scaled(graph: Graph, name: str) -> tuple[str, float]:
    """The tensor before its multiplication with a number, and the number."""
    product = graph.maker(name, "Mul")
    factor = graph.constant(product.input(1)) if product else None
    if product is None or factor is None or factor.size != 1:
        return name, 1.0
    return product.input(0), float(factor[0])
