"""The products of a convolution before the upsampling that precedes it, and their sums after it, as
nodes of an ONNX graph: see `upsampling`."""

from __future__ import annotations

from typing import TypeAlias

import numpy as np

from sdrt_engines.onnx_nodes import Nodes
from sdrt_engines.upsampling import CENTRE

_Three: TypeAlias = tuple[str, str, str]  # of the taps before, at and after a pixel
_ROWS, _COLUMNS = 2, 3  # the axes


def by_products(nodes: Nodes, output: str, source: str, size: str, kernel: str, bias: str) -> None:
    """Adds nodes that make `output`, the convolution of `source`, upsampled to `size`, a shape.

    `kernel` is (out, in, 3, 3), `bias` (out,) or empty. Of n rows or columns it makes 2n or 2n - 1.
    """
    products = _products(nodes, source, kernel, bias)
    columns = [(products[i], products[i + 3], products[i + 6]) for i in range(3)]
    inside = nodes.add("Reshape", _inside(nodes, _ROWS, source, size), nodes.integers(-1, 1))
    sums = [_sums(nodes, _ROWS, each, inside) for each in columns]
    inside = _inside(nodes, _COLUMNS, source, size)
    phases: list[str] = []
    for first, second, third in zip(*sums, strict=True):  # of even rows, of odd rows
        phases += _sums(nodes, _COLUMNS, (first, second, third), inside)
    pixels = nodes.add("Concat", *phases, axis=1)
    pixels = nodes.add("DepthToSpace", pixels, blocksize=2, mode="DCR")
    ends = nodes.add("Slice", size, nodes.integers(_ROWS), nodes.integers(_COLUMNS + 1))
    axes = nodes.integers(_ROWS, _COLUMNS)
    nodes.add("Slice", pixels, nodes.integers(0, 0), ends, axes, output=output)


def _products(nodes: Nodes, source: str, kernel: str, bias: str) -> list[str]:
    """Each tap with all pixels; the bias is in the products of the centre, which are in each output
    pixel once."""
    taps, found = nodes.add("Reshape", kernel, nodes.integers(0, 0, 9)), []
    shape = nodes.integers(0, 0, 1, 1)  # 0 keeps a size
    for place, only in enumerate(np.eye(9, dtype=np.float32)):
        tap = nodes.add("MatMul", taps, nodes.weight(only[:, None]))
        inputs = [source, nodes.add("Reshape", tap, shape)]
        inputs += [bias] if bias and place == CENTRE else []
        found.append(nodes.add("Conv", *inputs, kernel_shape=(1, 1)))
    return found


def _sums(nodes: Nodes, axis: int, products: _Three, inside: str) -> tuple[str, str]:
    """The even and the odd rows or columns, each as many as there were before."""
    before, at, after = products
    even = nodes.add("Add", at, nodes.add("Mul", after, inside))
    odd = nodes.add("Add", before, at)
    return (
        nodes.add("Add", even, _shifted(nodes, axis, before, 1)),
        nodes.add("Add", odd, _shifted(nodes, axis, after, -1)),
    )


def _shifted(nodes: Nodes, axis: int, products: str, by: int) -> str:
    """Along an axis, with a zero where none comes from."""
    pads = np.zeros((2, 4), np.int64)
    pads[:, axis] = by, -by
    return nodes.add("Pad", products, nodes.weight(pads.ravel()))


def _inside(nodes: Nodes, axis: int, source: str, size: str) -> str:
    """1 for each row or column of `source` that is upsampled to two, 0 for one that is not."""
    place = nodes.integers(axis), nodes.integers(axis + 1)
    num_pixels = nodes.add("Slice", nodes.add("Shape", source), *place)
    num_doubled = nodes.add("Sub", nodes.add("Slice", size, *place), num_pixels)
    padding = nodes.add("Sub", num_pixels, num_doubled)
    padding = nodes.add("Concat", nodes.integers(0), padding, axis=0)
    ones = nodes.add("Expand", nodes.weight(np.ones(1, np.float32)), num_doubled)
    return nodes.add("Pad", ones, padding)
