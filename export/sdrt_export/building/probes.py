"""Small seeded inputs to check a network with before what was built from it is kept."""

from __future__ import annotations

import numpy as np

from sdrt.bundle.folder import Bundle
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import Array

_LATENTS = 8  # height and width: errors of half precision appear at this size, too


def probe_inputs(bundle: Bundle, name: str) -> dict[str, Array]:
    """Noise in the range of real inputs."""
    return seeded_inputs(bundle, name, latents=_LATENTS)


def probe_cases(bundle: Bundle, name: str) -> list[dict[str, Array]]:
    """Noise, and the same with plain latents and images: convolutions sum up what does not vary."""
    noise = probe_inputs(bundle, name)
    plain = {key: _quarters(array) if array.ndim == 4 else array for key, array in noise.items()}
    return [noise, plain]


def _quarters(image: Array) -> Array:
    """Each channel as four plain areas with the image's smallest or largest value."""
    height, width = image.shape[2:]
    y, x = (np.arange(size) * 2 // size * (size // 2) for size in (height, width))
    corners = image[:, :, y][..., x]
    quarters: Array = np.where(corners > image.mean(), image.max(), image.min())
    return quarters
