"""Masks at the size of latents, as the box to crop, and for pasting the result back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdrt.images.framing import Box, Frame, Size, fitted
from sdrt.images.reading import array_from_image
from sdrt_engines import Array

if TYPE_CHECKING:
    from PIL.Image import Image


def mask_from_image(image: Image, frame: Frame) -> Array:
    """The mask as (1, 1, H, W): 1 where it is white (generated), 0 where it is black (kept)."""
    return (array_from_image(frame(image.convert("L"))) >= 0.5).astype(np.float32)


def latent_mask(mask: Array, scale_factor: int) -> Array:
    """The mask at the size of latents, (1, 1, h, w).

    Takes the upper left pixel of each cell, as torch's nearest interpolation does.
    """
    return mask[..., ::scale_factor, ::scale_factor]


def crop_box(mask: Image, size: Size, padding: int) -> Box:
    """The part of the image with the whole mask and `padding` pixels around it.

    It is widened to the aspect ratio of `size`, and stays inside the image if possible; for a black
    mask it is the whole image. Source, roundings included: `VaeImageProcessor.get_crop_region` of
    diffusers.
    """
    painted = np.asarray(mask.convert("L")) > 0  # (H, W)
    if not painted.any():
        return 0, 0, mask.width, mask.height
    columns, rows = (np.flatnonzero(painted.any(axis)) for axis in (0, 1))
    left, right = max(columns[0] - padding, 0), min(columns[-1] + 1 + padding, mask.width)
    top, bottom = max(rows[0] - padding, 0), min(rows[-1] + 1 + padding, mask.height)
    ratio = size[0] / size[1]
    if (right - left) / (bottom - top) > ratio:
        top, bottom = _widened(int(top), int(bottom), (right - left) / ratio, mask.height)
    else:
        left, right = _widened(int(left), int(right), (bottom - top) * ratio, mask.width)
    return int(left), int(top), int(right), int(bottom)


def _widened(first: int, last: int, wanted: float, limit: int) -> tuple[int, int]:
    """The interval with length `wanted` and the same centre, moved into 0..`limit`."""
    missing = int(wanted - (last - first))
    first -= missing // 2
    last += missing - missing // 2
    over = max(last - limit, 0)
    first, last = first - over, last - over
    under = max(-first, 0)
    return first + under, min(last + under, limit)


def paste_back(generated: Image, image: Image, mask: Image, box: Box) -> Image:
    """The image with `generated`, the image generated for `box`, where the mask is white.

    Grey parts are blended; black parts keep their pixels exactly.
    """
    from PIL.Image import composite

    left, top, right, bottom = box
    painted = image.copy()
    painted.paste(fitted(generated, (right - left, bottom - top), "crop"), (left, top))
    return composite(painted, image, mask.convert("L"))
