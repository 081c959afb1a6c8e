"""Nearest upsampling by 2 and a 3×3 convolution, as 2×2 convolutions before the upsampling.

Of the nine pixels under the kernel several are copies of one, so the kernel's taps on them can be
added before a run: each output pixel has four products per channel instead of nine. Which taps meet
depends on whether the pixel's row and column are even (phase 0) or odd (phase 1). In one direction:

    even: w0 x[i-1] + (w1 + w2) x[i]        odd: (w0 + w1) x[i] + w2 x[i+1]

Zeros around the image before the upsampling are zeros around it afterwards, so borders are exact.
"""

from __future__ import annotations

from typing import Final, TypeAlias

import numpy as np

from sdrt_engines.tensor import Array

Phase: TypeAlias = tuple[int, int]  # of rows and columns

PHASES: Final[tuple[Phase, ...]] = ((0, 0), (0, 1), (1, 0), (1, 1))  # as DepthToSpace orders them

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
