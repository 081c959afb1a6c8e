"""Masks: read, at the size of latents, as the box to crop, and for pasting the result back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from sdrt.errors import RequestError
from sdrt.images.framing import Box, Frame, Size, fitted
from sdrt.images.reading import ImageSource, InputImage, array_from_image, read_image
from sdrt_engines import Array

if TYPE_CHECKING:
    from PIL.Image import Image


WHITE = 128  # of 255: from here on a pixel is generated, as in diffusers


def mask_from_source(source: ImageSource, role: str) -> InputImage:
    """The mask at a path, or a PIL image, in grey: light × alpha, so transparent parts are black.

    Raises `RequestError` like `input_image_from_source`, and for a mask with transparent parts
    that may as well mean white.
    """

    def grey(image: Image) -> Image:
        return _opaque(image, role) if image.has_transparency_data else image.convert("RGB")

    return read_image(source, role, lambda image: grey(image).convert("L"))


def _opaque(image: Image, role: str) -> Image:
    """Light × alpha. A white brush on a transparent ground is the one plain case of transparency:
    dark or no visible parts leave open whether transparent means black or white."""
    from PIL import ImageChops

    image = image.convert("RGBA")
    light, alpha = image.convert("RGB").convert("L"), image.getchannel("A")
    transparent = np.asarray(alpha) < WHITE  # (H, W)
    visible_light = np.asarray(light)[~transparent]
    if transparent.any() and not (visible_light.size and visible_light.min() >= WHITE):
        raise RequestError(
            f"{role}: {transparent.mean():.0%} of it is transparent, which may mean black or "
            "white, as not all visible parts are white: save it without transparency, white where "
            "to generate and black elsewhere"
        )
    return ImageChops.multiply(light, alpha)


def mask_from_image(image: Image, frame: Frame) -> Array:
    """The mask as (1, 1, H, W): 1 where it is white (generated), 0 where it is black (kept)."""
    return (array_from_image(frame(image.convert("L"))) >= 0.5).astype(np.float32)


def latent_mask(mask: Array, scale_factor: int) -> Array:
    """The mask at the size of latents, (1, 1, h, w).

    Takes the upper left pixel of each cell, as torch's nearest interpolation does.
    """
    return mask[..., ::scale_factor, ::scale_factor]


def crop_box(mask: Image, size: Size, padding: int, threshold: int = WHITE) -> Box:
    """The part of the image with the generated pixels and `padding` pixels around them.

    It is widened to the aspect ratio of `size`, and stays inside the image if possible. Pixels
    count from `threshold` on: in diffusers from 1 on, which stray pixels exceed. Raises
    `RequestError` without any. Source, roundings included:
    `VaeImageProcessor.get_crop_region` of diffusers.
    """
    painted = np.asarray(mask.convert("L")) >= threshold  # (H, W)
    if not painted.any():
        raise RequestError(
            f"mask_image: {empty_mask_text(mask)}, so padding_mask_crop has nothing to cut out"
        )
    columns, rows = (np.flatnonzero(painted.any(axis)) for axis in (0, 1))
    left, right = max(columns[0] - padding, 0), min(columns[-1] + 1 + padding, mask.width)
    top, bottom = max(rows[0] - padding, 0), min(rows[-1] + 1 + padding, mask.height)
    ratio = size[0] / size[1]
    if (right - left) / (bottom - top) > ratio:
        top, bottom = _widened(int(top), int(bottom), (right - left) / ratio, mask.height)
    else:
        left, right = _widened(int(left), int(right), (bottom - top) * ratio, mask.width)
    return int(left), int(top), int(right), int(bottom)


def empty_mask_text(mask: Image) -> str:
    """The likely reason why a mask has no white."""
    highest = int(np.asarray(mask.convert("L")).max())
    if highest == 1:
        return "its greatest value is 1 of 255: save a mask of 0 and 1 as one of 0 and 255"
    lightness = "it is black everywhere" if highest == 0 else f"its lightest grey is {highest}"
    return f"{lightness}, expected white (from {WHITE} on) where to generate"


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
