"""Input images and masks, and the colours of an image."""

from __future__ import annotations

import numpy as np
from PIL import Image


def sample_image(width: int, height: int, seed: int = 0) -> Image.Image:
    """An image whose pixels all differ."""
    random = np.random.default_rng(seed)
    return Image.fromarray(random.integers(0, 256, (height, width, 3), dtype=np.uint8))


def mask(width: int, height: int, box: tuple[int, int, int, int]) -> Image.Image:
    """White inside the box, black outside."""
    drawn = Image.new("L", (width, height))
    drawn.paste(255, box)
    return drawn


def colours(image: Image.Image) -> set[tuple[int, ...]]:
    """The colours of an RGB image."""
    assert image.mode == "RGB"
    return set(map(tuple, np.asarray(image).reshape(-1, 3).tolist()))
