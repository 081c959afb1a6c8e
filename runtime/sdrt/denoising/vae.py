"""Between pictures and latents: the VAE's two engines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sdrt import tensor_names as names
from sdrt.arrays import require_finite
from sdrt_engines import Engine

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Scaling:
    """How latents are scaled for the UNet: ``(latents - shift) * factor``."""

    factor: float
    shift: float = 0.0


@dataclass(frozen=True)
class Posterior:
    """The normal distribution of a picture's latents, each (1, C, h, w), scaled for the UNet.

    Source: ``DiagonalGaussianDistribution`` of diffusers.
    """

    mean: Array
    std: Array

    def sample(self, noise: Array) -> Array:
        """One draw for each image of the noise (B, C, h, w)."""
        return self.mean + self.std * noise


def encode(engine: Engine, pixels: Array, scaling: Scaling) -> Posterior:
    """The posterior of one picture, (1, 3, H, W) in 0..1."""
    sample = 2 * pixels - 1
    parameters = engine.run({names.SAMPLE: sample})[names.LATENT_PARAMETERS]  # (1, 2C, h, w)
    require_finite(names.VAE_ENCODER, parameters)
    mean, log_variance = np.split(parameters, 2, axis=1)
    std = np.exp(log_variance.clip(-30, 20) / 2)
    factor = np.float32(scaling.factor)
    return Posterior((mean - np.float32(scaling.shift)) * factor, std * factor)


def decode(engine: Engine, latent: Array, scaling: Scaling) -> Image:
    """The picture of one image's latents (1, C, h, w)."""
    from PIL.Image import fromarray

    unscaled = (latent / scaling.factor + scaling.shift).astype(np.float32)
    sample = engine.run({names.LATENT_SAMPLE: unscaled})[names.SAMPLE]  # (1, 3, H, W) in -1..1
    require_finite(names.VAE_DECODER, sample)
    pixels = np.rint((sample[0] / 2 + 0.5).clip(0, 1) * 255).astype(np.uint8)
    return fromarray(pixels.transpose(1, 2, 0))
