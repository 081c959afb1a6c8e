"""Checks of arrays: the distance between two of them, and guards against NaN."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from sdrt.errors import NonFiniteError
from sdrt_engines import Array


def psnr_of(expected: Array, got: Array) -> float:
    """The peak signal-to-noise ratio in dB, relative to the range of `expected`; infinite for equal
    arrays. Both must be finite and of the same shape.
    """
    error = got.astype(np.float64) - expected
    mean_square = float(np.mean(error**2)) if error.size else 0.0
    if mean_square == 0:
        return math.inf
    peak = float(np.ptp(expected)) or 1.0
    return 20 * math.log10(peak) - 10 * math.log10(mean_square)


def require_finite(component: str, array: npt.NDArray[Any]) -> None:
    """Guards between networks: NaN never becomes a black image.

    Raises `NonFiniteError` naming the component if its output holds NaN or infinity.
    """
    if not np.isfinite(array).all():
        raise NonFiniteError(
            f"{component}: {np.count_nonzero(~np.isfinite(array))} of {array.size} output values "
            "are NaN or infinite, so there is no image: use target cpu, or export the checkpoint "
            "again"
        )
