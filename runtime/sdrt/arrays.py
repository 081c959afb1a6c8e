"""How near two arrays are."""

from __future__ import annotations

import math

import numpy as np

from sdrt_engines import Array


def psnr_of(expected: Array, got: Array) -> float:
    """The peak signal-to-noise ratio in dB, relative to the range of ``expected``; infinite for
    equal arrays. Both are finite, and of one shape.
    """
    error = got.astype(np.float64) - expected
    mean_square = float(np.mean(error**2)) if error.size else 0.0
    if mean_square == 0:
        return math.inf
    peak = float(np.ptp(expected)) or 1.0
    return 20 * math.log10(peak) - 10 * math.log10(mean_square)
