"""Nearest upsampling and a 3×3 convolution, with the convolution first: of the nine pixels under
the kernel several are copies of one. In one direction, with the taps w and the pixels x:

    even: w0 x[i-1] + (w1 + w2) x[i]        odd: (w0 + w1) x[i] + w2 x[i+1]

There are two ways to use this.

By phases: the taps that meet are added before a run. Even and odd rows and columns make four
phases, each a 2×2 convolution: four products for each output pixel and channel instead of nine.

By products: each tap is multiplied with each pixel before the upsampling, and the products that
belong together are added after it: a quarter of the products, but nine numbers for each pixel and
channel in memory, which a UNet has, and an image decoder has not. A UNet upsamples to the size of a
skip connection, 2n or 2n - 1; in the latter case w2 x[n-1] of the last even pixel is outside.

Zeros around the image before the upsampling are zeros around it afterwards, so borders are exact.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from sdrt_engines.tensor import Array

Phase: TypeAlias = tuple[int, int]  # of rows and columns

PHASES: Final[tuple[Phase, ...]] = ((0, 0), (0, 1), (1, 0), (1, 1))  # as DepthToSpace orders them
CENTRE: Final = 4  # the place of the middle tap, which belongs to each output pixel, among the nine

# [phase][tap of two, tap of three]
_ADDED: Final = np.array([[[1, 0, 0], [0, 1, 1]], [[1, 1, 0], [0, 0, 1]]], np.float32)


def added_taps(phase: Phase) -> Array:
    """The matrix from the nine taps of a kernel to the four of its phase, (9, 4)."""
    rows, columns = (_ADDED[each] for each in phase)
    return np.ascontiguousarray(np.kron(rows, columns).T)


def pads_of(phase: Phase) -> tuple[int, int, int, int]:
    """Zeros at the top, left, bottom and right for the phase's convolution."""
    row, column = phase
    return 1 - row, 1 - column, row, column
