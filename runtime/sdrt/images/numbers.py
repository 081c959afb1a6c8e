"""Images of more than 8 bits per pixel, whose modes do not say what their numbers range over."""

from __future__ import annotations

import numpy as np

from sdrt.errors import RequestError
from sdrt_engines import Array

# Between the largest value of an image in 0..1, which resampling may exceed a little, and that of
# an image in 0..255 that is not nearly black.
_FRACTIONS, _BYTES = 2, 32


def bytes_from_numbers(pixels: Array, role: str) -> Array:
    """Grey values of any type as uint8, by the range that their largest value shows.

    Raises `RequestError` for NaN, negative integers and ranges that no program writes: brightness
    would be a guess.
    """
    highest, lowest = float(pixels.max()), float(pixels.min())
    if pixels.dtype.kind == "f":
        return _from_floats(pixels, lowest, highest, role)
    if lowest < 0 or highest > 65535:
        raise _refusal(role, lowest, highest, "0 to 255 or 0 to 65535")
    if highest <= 255:
        return pixels.astype(np.uint8)
    return np.asarray(pixels.astype(np.int64) >> 8, np.uint8)


def _from_floats(pixels: Array, lowest: float, highest: float, role: str) -> Array:
    if np.isnan(pixels).any():
        raise RequestError(f"{role}: it holds NaN: give an image that is not damaged")
    if highest <= _FRACTIONS and lowest >= -1:
        pixels = pixels * 255
    elif not (_BYTES <= highest <= 256 and lowest >= -_BYTES):
        raise _refusal(role, lowest, highest, "0 to 1 or 0 to 255")
    return np.asarray(np.rint(pixels.clip(0, 255)), np.uint8)


def _refusal(role: str, lowest: float, highest: float, expected: str) -> RequestError:
    return RequestError(
        f"{role}: got values from {lowest:g} to {highest:g}, expected {expected}: rescale it, or "
        "save it with 8 bits"
    )
