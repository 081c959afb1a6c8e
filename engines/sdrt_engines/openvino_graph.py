"""Changes to a network's graph that OpenVINO's compiler does not make itself.

Tried and rejected, with openvino 2026.4, at Stable Diffusion 1.5's highest resolution:

* `GroupNormalization` in place of `MVN`, and `ScaledDotProductAttention` in place of its parts: if
  shapes are open, the compiler turns both back.
* The projections around transformer blocks, 1×1 convolutions, as matrix products of tokens. They
  need one copy less, but a run takes the same processor time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdrt_engines.openvino_library import openvino
from sdrt_engines.openvino_upsampling import convolve_first

_DECOMPRESSION = "decompression_0"  # the key of `ov::Decompression` in a node's runtime information


def prepare_graph(model: Any) -> None:
    """Changes a network's graph, before it is compiled."""
    convolve_first(model)
    keep_half_weights(model)
    split_gates(model)


def keep_half_weights(model: Any) -> None:
    """Marks the casts of weights from float16, as OpenVINO marks those in its own format: they stay
    mapped from the file until a node converts them to what it computes with. Otherwise the compiler
    converts all of them to float32 first, in additional memory.
    """
    for node in model.get_ops():
        if _is(node, "Convert") and _is_half_weight(node.input_value(0)):
            node.get_rt_info()[_DECOMPRESSION] = ""


def split_gates(model: Any) -> None:
    """Computes each half of a gated unit, x·GELU(gate), with a matrix product of its own.

    OpenVINO splits the common product with a slow copy. The GELU becomes part of its own product.
    """
    for node in model.get_ops():
        if (half := _Columns.of(node)) is not None:
            node.output(0).replace(half.product())


@dataclass(frozen=True)
class _Columns:
    """Some of the columns of x·W + b: a slice of its last axis."""

    x: Any
    weight: Any  # the node of W (in, out), a constant or the cast of one
    bias: Any  # the node of b (out,), likewise
    columns: slice

    @classmethod
    def of(cls, node: Any) -> _Columns | None:
        """None if the node is anything else."""
        if not _is(node, "Slice") or not _is_sliced_sum(_source(node, 0)):
            return None
        columns = _last_columns(node)
        for product, bias in _both_orders(_source(node, 0)):
            if columns and _is_product(product) and _is_weight(bias, rank=1):
                return cls(product.input_value(0), _source(product, 1), bias, columns)
        return None

    def product(self) -> Any:
        ops = openvino().opset13
        weight, bias = (_part(node, self.columns) for node in (self.weight, self.bias))
        return ops.add(ops.matmul(self.x, weight, False, False), bias).output(0)


def _part(weight: Any, columns: slice) -> Any:
    """A copy of some columns of a weight, cast as the weight is."""
    ops = openvino().opset13
    if _is(weight, "Constant"):
        return ops.constant(np.ascontiguousarray(weight.data[..., columns]))
    cast = ops.convert(_part(_source(weight, 0), columns), weight.get_element_type().to_string())
    if _DECOMPRESSION in weight.get_rt_info():
        cast.get_rt_info()[_DECOMPRESSION] = ""
    return cast


def _last_columns(node: Any) -> slice | None:
    """The bounds of a slice of the last axis; None if it is anything else."""
    start, stop, step, axis = (_whole_number(_source(node, index)) for index in range(1, 5))
    if start is None or stop is None or step != 1:
        return None
    return slice(start, stop) if axis in (-1, len(node.get_output_partial_shape(0)) - 1) else None


def _whole_number(node: Any) -> int | None:
    """The only number in a constant, which may be broadcast; None if it is anything else."""
    if _is(node, "Broadcast"):
        return _whole_number(_source(node, 0))
    found = node.data if _is(node, "Constant") else np.empty(0)
    return int(found.item()) if found.size == 1 else None


def _both_orders(node: Any) -> Iterator[tuple[Any, Any]]:
    first, second = _source(node, 0), _source(node, 1)
    yield first, second
    yield second, first


def _source(node: Any, index: int) -> Any:
    return node.input_value(index).get_node()


def _is(node: Any, kind: str) -> bool:
    found: str = node.get_type_name()
    return found == kind


def _is_sliced_sum(node: Any) -> bool:
    """True for a sum of which nothing but slices is used."""
    return _is(node, "Add") and all(
        _is(user.get_node(), "Slice") for user in node.output(0).get_target_inputs()
    )


def _is_product(node: Any) -> bool:
    """True for x·W without transpositions."""
    if not _is(node, "MatMul") or any(node.get_attributes().values()):
        return False
    return _is_weight(_source(node, 1), rank=2)


def _is_weight(node: Any, rank: int) -> bool:
    if len(node.get_output_partial_shape(0)) != rank:
        return False
    return _is(node, "Constant") or (_is(node, "Convert") and _is(_source(node, 0), "Constant"))


def _is_half_weight(weight: Any) -> bool:
    found: bool = weight.get_element_type() == openvino().Type.f16
    return found and _is(weight.get_node(), "Constant")
