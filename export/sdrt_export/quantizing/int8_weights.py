"""Weights in int8 and biases in int32, as whole numbers of steps.

A weight has a step for each output channel, and no offset. The step of a bias is the product of
that and the step of the layer's input, as in the sums that it is added to.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np

from sdrt_engines import Array
from sdrt_export.precision.float_graph import FLOAT
from sdrt_export.precision.typed_graph import Combined, Stored
from sdrt_export.quantizing.layers import Layer

LARGEST = 127  # of int8, on both sides of 0
_LARGEST_BIAS = 2**30  # of int32, with room for the sums

Make: TypeAlias = Callable[["Int8Values"], Array]


class Int8Values:
    """A layer's weight and, if it has one, its bias. `step` is that of the layer's input."""

    def __init__(self, axis: int, step: np.float32, parts: Sequence[Array]) -> None:
        self.axis, self.step = axis, float(step)
        self.weight, self.bias = parts[0], parts[1] if len(parts) > 1 else None

    @property
    def weight_scales(self) -> Array:
        """The step of each output channel: as small as the weight allows, and so large that the
        bias fits into int32."""
        others = tuple(i for i in range(self.weight.ndim) if i != self.axis)
        scales = np.abs(self.weight).max(axis=others) / LARGEST
        if self.bias is not None:
            scales = np.maximum(scales, np.abs(self.bias) / (self.step * _LARGEST_BIAS))
        return np.where(scales > 0, scales, 1).astype(np.float32)

    @property
    def weight_steps(self) -> Array:
        shape = [1] * self.weight.ndim
        shape[self.axis] = -1
        steps = np.rint(self.weight / self.weight_scales.reshape(shape))
        return np.clip(steps, -LARGEST, LARGEST).astype(np.int8)

    @property
    def bias_scales(self) -> Array:
        return (self.weight_scales * self.step).astype(np.float32)

    @property
    def bias_steps(self) -> Array:
        assert self.bias is not None
        return np.rint(self.bias / self.bias_scales.astype(np.float64)).astype(np.int32)


def computed(layer: Layer, step: np.float32, make: Make) -> Combined:
    """A weight of the new graph, made of the layer's own when it is written."""
    sources = [layer.weight] if layer.bias is None else [layer.weight, layer.bias]
    parts = tuple(Stored(source, FLOAT) for source in sources)
    return Combined(parts, partial(_made, layer.axis, step, make))


def _made(axis: int, step: np.float32, make: Make, parts: Sequence[Array]) -> Array:
    return make(Int8Values(axis, step, parts))
