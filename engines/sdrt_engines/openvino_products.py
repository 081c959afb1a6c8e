"""The products of a convolution before the upsampling that precedes it, and their sums after it, in
an OpenVINO model: see `upsampling`."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np

from sdrt_engines.openvino_library import openvino
from sdrt_engines.tensor import Array
from sdrt_engines.upsampling import CENTRE

_Three: TypeAlias = tuple[Any, Any, Any]  # of the taps before, at and after a pixel
_ROWS, _COLUMNS = 2, 3  # the axes


def by_products(source: Any, size: Any, kernel: Array, bias: Any) -> Any:
    """The convolution of `source`, upsampled to `size`, a shape.

    `kernel` is (out, in, 3, 3), `bias` (out,) or None. Of n rows or columns it makes 2n or 2n - 1.
    """
    ops = openvino().opset15
    products = _products(source, kernel, bias)
    phases = [
        pixels
        for rows in _sums(_three(products), _ROWS, source, size)
        for pixels in _sums(_three(rows), _COLUMNS, source, size)
    ]
    pixels = ops.depth_to_space(ops.concat(phases, 1), "blocks_first", 2)
    ends = ops.gather(size, [_ROWS, _COLUMNS], 0)
    return ops.slice(pixels, [0, 0], ends, [1, 1], [_ROWS, _COLUMNS])


def _products(source: Any, kernel: Array, bias: Any) -> Any:
    """All taps with all pixels, (batch, 9 out, rows, columns); the bias is in those of the centre,
    which are in each output pixel once."""
    ops = openvino().opset15
    num_outputs, num_inputs = kernel.shape[:2]
    taps = kernel.transpose(2, 3, 0, 1).reshape(9 * num_outputs, num_inputs, 1, 1)
    weight = ops.convert(ops.constant(taps), "f32")
    products = ops.convolution(source, weight, [1, 1], [0, 0], [0, 0], [1, 1])
    if bias is None:
        return products
    before = [CENTRE * num_outputs]
    biases = ops.pad(bias, before, before, "constant", np.float32(0))
    return ops.add(products, ops.reshape(biases, [1, -1, 1, 1], False))


def _three(products: Any) -> _Three:
    first, second, third = openvino().opset15.split(products, 1, 3).outputs()
    return first, second, third


def _sums(products: _Three, axis: int, source: Any, size: Any) -> tuple[Any, Any]:
    """The even and the odd rows or columns, each as many as `source` has."""
    ops = openvino().opset15
    before, at, after = products
    inside = ops.multiply(after, _is_inside(axis, source, size))
    even = ops.add(ops.add(at, inside), _shifted(before, axis, 1))
    odd = ops.add(ops.add(before, at), _shifted(after, axis, -1))
    return even, odd


def _shifted(products: Any, axis: int, by: int) -> Any:
    """Along an axis, with a zero where none comes from."""
    begin = [by if each == axis else 0 for each in range(4)]
    return openvino().opset15.pad(
        products, begin, [-each for each in begin], "constant", np.float32(0)
    )


def _is_inside(axis: int, source: Any, size: Any) -> Any:
    """1 for each row or column of `source` that is upsampled to two, 0 for one that is not."""
    ops = openvino().opset15
    num_pixels = ops.gather(ops.shape_of(source), [axis], 0)
    num_doubled = ops.subtract(ops.gather(size, [axis], 0), num_pixels)
    ones = ops.broadcast(np.float32(1), num_doubled)
    padding = ops.subtract(num_pixels, num_doubled)
    inside = ops.pad(ones, [0], padding, "constant", np.float32(0))
    return ops.reshape(inside, [-1 if each == axis else 1 for each in range(4)], False)
