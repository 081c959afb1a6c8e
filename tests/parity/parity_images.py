"""Input images and masks."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw, ImageFilter


def sample_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """Smooth colours: interpolation between pixels matters little."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def mask(width: int, height: int, *, soft: bool = False) -> Image.Image:
    drawn = Image.new("L", (width, height))
    box = (width // 4, height // 3, width * 3 // 4, height * 2 // 3)
    ImageDraw.Draw(drawn).ellipse(box, fill=255)
    return drawn.filter(ImageFilter.GaussianBlur(3)) if soft else drawn
