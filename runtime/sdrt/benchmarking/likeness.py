"""The likeness of two images: PSNR and SSIM."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from sdrt_engines import Array

Pixels = npt.NDArray[np.uint8]  # (H, W, 3)
PEAK = 255.0
EQUAL = 99.0  # dB: the PSNR of equal images
_RADIUS, _SPREAD = 5, 1.5  # pixels: of the Gaussian window
_C1, _C2 = (0.01 * PEAK) ** 2, (0.03 * PEAK) ** 2


def psnr_of_images(expected: Pixels, got: Pixels) -> float:
    """The peak signal-to-noise ratio in dB, at most that of equal images."""
    mean_square = float(np.square(expected.astype(np.float64) - got).mean())
    if mean_square == 0:
        return EQUAL
    return min(EQUAL, 10 * math.log10(PEAK**2 / mean_square))


def ssim_of_images(expected: Pixels, got: Pixels) -> float:
    """The structural similarity, 1 for equal images: the mean over all windows inside the image
    and all channels (Wang et al. 2004, https://doi.org/10.1109/TIP.2003.819861).
    """
    x, y = expected.astype(np.float64), got.astype(np.float64)
    mean_x, mean_y = _blurred(x), _blurred(y)
    spread_x, spread_y = _blurred(x * x) - mean_x**2, _blurred(y * y) - mean_y**2
    together = _blurred(x * y) - mean_x * mean_y
    luminance = (2 * mean_x * mean_y + _C1) / (mean_x**2 + mean_y**2 + _C1)
    structure = (2 * together + _C2) / (spread_x + spread_y + _C2)
    return float((luminance * structure).mean())


def _blurred(image: Array) -> Array:
    """The mean of each window (H - 10, W - 10, 3)."""
    offsets = np.arange(-_RADIUS, _RADIUS + 1)
    weights = np.exp(-(offsets**2) / (2 * _SPREAD**2))
    weights /= weights.sum()
    for axis in (0, 1):
        windows = np.lib.stride_tricks.sliding_window_view(image, len(weights), axis=axis)
        image = windows @ weights
    return image
