"""Where denoising begins: at noise, at a picture with noise on it, at a picture with a mask."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from sdrt.denoising.vae import Posterior
from sdrt.samplers import Schedule

Array = npt.NDArray[np.float32]
Draw: TypeAlias = Callable[[], Array]  # standard normals (B, C, h, w), an own stream for each image
Blend: TypeAlias = Callable[[Array, int], Array]  # (latents, index) -> latents


@dataclass(frozen=True)
class Start:
    """The first latents (B, C, h, w), at the noise of ``schedule.timesteps[index]``.

    ``blend`` puts the picture back where the mask keeps it, after each step; ``beside``
    (B, 1 + C, h, w) is what an inpainting UNet sees in its place.
    """

    latents: Array
    index: int = 0
    blend: Blend | None = None
    beside: Array | None = None


def first_index(schedule: Schedule, num_inference_steps: int, strength: float) -> int:
    """The index into ``schedule.timesteps`` at which a picture of that strength begins.

    Strength 1 is all of the steps.
    """
    num_steps = min(int(num_inference_steps * strength), num_inference_steps)
    return (num_inference_steps - num_steps) * schedule.calls_per_step


def start_from_noise(schedule: Schedule, draw: Draw) -> Start:
    """Text to image."""
    return Start(draw() * schedule.init_noise_sigma)


def start_from_picture(schedule: Schedule, draw: Draw, picture: Posterior, index: int) -> Start:
    """Image to image (Meng et al. 2021, https://arxiv.org/abs/2108.01073):
    ``StableDiffusionImg2ImgPipeline``.
    """
    latents = picture.sample(draw())
    return Start(schedule.add_noise(latents, draw(), index), index)


def start_with_blending(
    schedule: Schedule, draw: Draw, picture: Posterior, mask: Array, index: int, *, from_noise: bool
) -> Start:
    """Inpainting with an ordinary UNet: ``StableDiffusionInpaintPipeline`` with 4 channels.

    After each step, what the ``mask`` (1, 1, h, w) does not paint becomes the picture again, at
    that step's noise. ``from_noise`` (strength 1) begins at noise alone.
    """
    latents, noise = picture.sample(draw()), draw()
    draw()  # diffusers samples the masked picture, too, and then leaves it alone

    def blend(painted: Array, at: int) -> Array:
        kept = latents
        if at + 1 < len(schedule.timesteps):
            kept = schedule.add_noise(latents, noise, at + 1)
        blended: Array = (1 - mask) * kept + mask * painted
        return blended

    first = (
        noise * schedule.init_noise_sigma
        if from_noise
        else schedule.add_noise(latents, noise, index)
    )
    return Start(first, index, blend=blend)


def start_beside_mask(
    schedule: Schedule,
    draw: Draw,
    picture: Posterior | None,
    masked_picture: Posterior,
    mask: Array,
    index: int,
) -> Start:
    """Inpainting with a UNet made for it: ``StableDiffusionInpaintPipeline`` with 9 channels.

    It sees the ``mask`` (1, 1, h, w) and the latents of the picture without what will be painted.
    Without ``picture`` (strength 1) it begins at noise alone.
    """
    latents = None if picture is None else picture.sample(draw())
    noise = draw()
    masked = masked_picture.sample(draw())
    masks = np.repeat(mask, len(masked), axis=0)
    beside = np.concatenate([masks, masked], axis=1)
    if latents is None:
        return Start(noise * schedule.init_noise_sigma, index, beside=beside)
    return Start(schedule.add_noise(latents, noise, index), index, beside=beside)
