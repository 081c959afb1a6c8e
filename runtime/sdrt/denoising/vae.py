"""The two networks between images and latents: the VAE."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sdrt import tensor_names as names
from sdrt.ask import Ask, Asks, Link
from sdrt.denoising.tiling import Seams, Tiling
from sdrt.families.family import LatentSpace
from sdrt_engines import Array

if TYPE_CHECKING:
    from PIL.Image import Image


Draw: TypeAlias = Callable[[], Array]  # standard normals (B, C, h, w), one stream per image


@dataclass(frozen=True)
class Posterior:
    """The normal distribution of an image's latents, each (1, C, h, w), scaled for the denoiser.

    Source: `DiagonalGaussianDistribution` of diffusers.
    """

    mean: Array
    std: Array | None  # None: the mean is certain, and no noise is drawn

    def sample(self, draw: Draw) -> Array:
        """One sample for each image, (B, C, h, w); (1, C, h, w) if all are equal."""
        if self.std is None:
            return self.mean
        drawn: Array = self.mean + self.std * draw()
        return drawn


@dataclass(frozen=True)
class Autoencoder:
    """A VAE's networks by their names in the bundle, and the latent space between them.

    With `tiling`, images larger than a tile are encoded and decoded tile by tile. The encoder of
    one that is not `variational` (TAESD) gives latents instead of their distribution.
    """

    encoder: str
    decoder: str
    latents: LatentSpace
    tiling: Tiling | None = None
    variational: bool = True

    def encode(self, pixels: Array) -> Asks[Posterior]:
        """The posterior of one image, (1, 3, H, W) in 0..1."""
        shift, factor = _shift_and_factor(self.latents)
        if not self.variational:
            latents = yield from self._run_encoder(pixels, names.LATENTS)
            return Posterior((latents - shift) * factor, None)
        parameters = yield from self._parameters(pixels)  # (1, 2C, h, w)
        mean, log_variance = np.split(parameters, 2, axis=1)
        std = np.exp(log_variance.clip(-30, 20) / 2)
        return Posterior((mean - shift) * factor, std * factor)

    def decode(self, latents: Array) -> Asks[tuple[Image, ...]]:
        """The images of latents (B, C, h, w), one at a time: decoding needs the most memory."""
        images = []
        for latent in latents:
            images.append((yield from self._decode_one(latent[None])))
        return tuple(images)

    def _parameters(self, pixels: Array) -> Asks[Array]:
        factor = self.latents.vae_scale_factor
        height, width = (side // factor for side in pixels.shape[-2:])
        if self.tiling is None or not self.tiling.divides(height, width):
            return (yield from self._run_encoder(pixels))
        parameters = np.empty((1, 2 * self.latents.channels, height, width), np.float32)
        seams = Seams(self.tiling, scale=1)
        for tile in self.tiling.tiles(height, width):
            result = yield from self._run_encoder(tile.of(pixels, factor))
            part = seams.finished(tile, result)
            tile.of(parameters)[..., : part.shape[-2], : part.shape[-1]] = part
        return parameters

    def _decode_one(self, latent: Array) -> Asks[Image]:
        from PIL.Image import new

        latent, factor = unscaled_latents(latent, self.latents), self.latents.vae_scale_factor
        height, width = latent.shape[-2:]
        if self.tiling is None or not self.tiling.divides(height, width):
            return image_from_sample((yield from self._run_decoder(latent))[0])
        image = new("RGB", (width * factor, height * factor))
        seams = Seams(self.tiling, scale=factor)
        for tile in self.tiling.tiles(height, width):
            result = yield from self._run_decoder(tile.of(latent))
            part = image_from_sample(seams.finished(tile, result)[0])
            image.paste(part, (tile.left * factor, tile.top * factor))
        return image

    def _run_encoder(self, pixels: Array, output: str = names.LATENT_PARAMETERS) -> Asks[Array]:
        link = Link(self.encoder, (0,), {names.SAMPLE: 2 * pixels - 1})
        answer = yield Ask((link,), (output,))
        return answer.outputs[output]  # (1, 2C, h, w), or (1, C, h, w) of latents

    def _run_decoder(self, latent: Array) -> Asks[Array]:
        link = Link(self.decoder, (0,), {names.LATENT_SAMPLE: latent})
        answer = yield Ask((link,), (names.SAMPLE,))
        return answer.outputs[names.SAMPLE]  # (1, 3, H, W)


def image_from_sample(sample: Array) -> Image:
    """The image of a decoder's output (3, H, W) in -1..1.

    In place and plane by plane: with copies this takes half the time of a UNet step on a GPU.
    """
    from PIL.Image import fromarray, merge

    pixels = sample / 2
    pixels += 0.5
    np.clip(pixels, 0, 1, out=pixels)
    pixels *= 255
    planes = np.rint(pixels, out=pixels).astype(np.uint8)
    return merge("RGB", [fromarray(plane) for plane in planes])


def unscaled_latents(latent: Array, space: LatentSpace) -> Array:
    """Latents (B, C, h, w) for the VAE's decoder."""
    if space.mean is None or space.std is None:
        return (latent / space.scaling_factor + space.shift_factor).astype(np.float32)
    mean, std = (_per_channel(values) for values in (space.mean, space.std))
    return (latent * std / space.scaling_factor + mean).astype(np.float32)


def _shift_and_factor(space: LatentSpace) -> tuple[Array | np.float32, Array | np.float32]:
    """The offset to subtract from the VAE's latents, and the factor to multiply with after that."""
    factor = np.float32(space.scaling_factor)
    if space.mean is None or space.std is None:
        return np.float32(space.shift_factor), factor
    return _per_channel(space.mean), factor / _per_channel(space.std)


def _per_channel(values: Sequence[float]) -> Array:
    return np.array(values, np.float32)[:, None, None]
