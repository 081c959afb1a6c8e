"""The start of denoising: noise, an image with noise, or an image with a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sdrt.ask import Asks
from sdrt.denoising.vae import Autoencoder, Draw
from sdrt.images.masks import latent_mask
from sdrt_engines import Array

if TYPE_CHECKING:
    from sdrt.samplers.schedule import Schedule

# (latents, index of the next timestep, or None after the last one) -> latents
Blend: TypeAlias = Callable[[Array, int | None], Array]


@dataclass(frozen=True, eq=False)
class FromNoise:
    """Text to image."""


@dataclass(frozen=True, eq=False)
class FromImage:
    """Image to image (Meng et al. 2021, https://arxiv.org/abs/2108.01073)."""

    pixels: Array  # (1, 3, H, W) in 0..1
    index: int  # into the schedule's timesteps: the start


@dataclass(frozen=True, eq=False)
class Inpaint:
    """Inpainting: what the mask does not cover stays as in the image.

    `from_noise` (strength 1) starts from noise alone. `sees_mask` is for denoisers that take the
    mask and the masked image as channels; for others, the image is blended in after each step.
    """

    pixels: Array  # (1, 3, H, W) in 0..1
    mask: Array  # (1, 1, H, W): 1 is generated, 0 is kept
    index: int
    from_noise: bool
    sees_mask: bool


StartKind: TypeAlias = FromNoise | FromImage | Inpaint


@dataclass(frozen=True, eq=False)
class Start:
    """The first latents (B, C, h, w), with the noise of `schedule.timesteps[index]`.

    `blend` restores the image where the mask keeps it, after each step; `extra` (B, 1 + C, h, w)
    are the extra channels of an inpainting denoiser.
    """

    latents: Array
    index: int = 0
    blend: Blend | None = None
    extra: Array | None = None


def start_of(kind: StartKind, schedule: Schedule, draw: Draw, vae: Autoencoder) -> Asks[Start]:
    """The start of a job. Noise is drawn in diffusers' order."""
    match kind:
        case FromNoise():
            return Start(draw() * schedule.init_noise_sigma)
        case FromImage():
            return (yield from start_from_image(kind, schedule, draw, vae))
        case Inpaint(sees_mask=True):
            return (yield from start_with_mask_channels(kind, schedule, draw, vae))
        case Inpaint():
            return (yield from start_with_blending(kind, schedule, draw, vae))


def first_index(schedule: Schedule, num_inference_steps: int, strength: float) -> int:
    """The index into `schedule.timesteps` at which an image of that strength starts.

    Strength 1 means all steps.
    """
    num_steps = min(int(num_inference_steps * strength), num_inference_steps)
    return (num_inference_steps - num_steps) * schedule.calls_per_step


def start_of_refiner(
    kind: StartKind, latents: Array, schedule: Schedule, index: int, draw: Draw, vae: Autoencoder
) -> Start:
    """The start of a refiner from the latents of the steps before it. With a mask, the latents that
    it keeps are these.

    Source: `StableDiffusionXLImg2ImgPipeline` and `StableDiffusionXLInpaintPipeline` with
    `denoising_start`.
    """
    if not isinstance(kind, Inpaint):
        return Start(latents, index)
    blend = _blend(kind, schedule, latents, draw(), vae)
    return Start(latents, index, blend=blend)


def start_from_image(
    kind: FromImage, schedule: Schedule, draw: Draw, vae: Autoencoder
) -> Asks[Start]:
    """Source: `StableDiffusionImg2ImgPipeline`."""
    posterior = yield from vae.encode(kind.pixels)
    latents = posterior.sample(draw)
    return Start(schedule.add_noise(latents, draw(), kind.index), kind.index)


def start_with_blending(
    kind: Inpaint, schedule: Schedule, draw: Draw, vae: Autoencoder
) -> Asks[Start]:
    """Source: `StableDiffusionInpaintPipeline` with 4 channels.

    After each step, the part to keep is replaced by the image with that step's noise.
    """
    posterior = yield from vae.encode(kind.pixels)
    latents, noise = posterior.sample(draw), draw()
    posterior.sample(draw)  # diffusers also samples the masked image, without using it
    blend = _blend(kind, schedule, latents, noise, vae)
    return Start(_first_latents(kind, schedule, latents, noise), kind.index, blend=blend)


def _blend(
    kind: Inpaint, schedule: Schedule, latents: Array, noise: Array, vae: Autoencoder
) -> Blend:
    """Replaces what the mask keeps by `latents` with the noise of the next timestep."""
    mask = latent_mask(kind.mask, vae.latents.vae_scale_factor)

    def blend(painted: Array, index: int | None) -> Array:
        kept = latents if index is None else schedule.add_noise(latents, noise, index)
        blended: Array = (1 - mask) * kept + mask * painted
        return blended

    return blend


def start_with_mask_channels(
    kind: Inpaint, schedule: Schedule, draw: Draw, vae: Autoencoder
) -> Asks[Start]:
    """Source: `StableDiffusionInpaintPipeline` with 9 channels.

    The denoiser sees the mask, and the latents of the image without the part to generate.
    """
    posterior = None if kind.from_noise else (yield from vae.encode(kind.pixels))
    grey = np.float32(0.5)  # 0 in the VAE's range of -1 to 1
    masked_posterior = yield from vae.encode(np.where(kind.mask < 0.5, kind.pixels, grey))
    latents = None if posterior is None else posterior.sample(draw)
    noise = draw()
    masked = np.broadcast_to(masked_posterior.sample(draw), noise.shape)
    mask = latent_mask(kind.mask, vae.latents.vae_scale_factor)
    extra = np.concatenate([np.repeat(mask, len(masked), axis=0), masked], axis=1)
    return Start(_first_latents(kind, schedule, latents, noise), kind.index, extra=extra)


def _first_latents(kind: Inpaint, schedule: Schedule, latents: Array | None, noise: Array) -> Array:
    if kind.from_noise or latents is None:
        return noise * schedule.init_noise_sigma
    return schedule.add_noise(latents, noise, kind.index)
