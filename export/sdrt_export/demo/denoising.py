"""The shared training code of UNet and ControlNet: encoded sets, batches, their loss.

The random numbers of a step are drawn in this order: latents, captions, other inputs of the
network, timesteps, noise. Another order gives other weights.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from diffusers import AutoencoderKL, DDIMScheduler
from torch.nn import functional
from transformers import CLIPTokenizer

from sdrt_export.demo.drawing import Mask
from sdrt_export.demo.loop import num_processes, rank
from sdrt_export.demo.text import tokens_from_captions
from sdrt_export.demo.vae import tensor_from_images

LATENT_SIZE = 16
BATCH = 64
CAPTIONS_PER_LATENT = 4
CAPTION_DROPOUT = 0.1  # the share of empty captions, for classifier-free guidance
SHAPE_WEIGHT = 4.0  # weight of the latent cells that the shape covers
NOISY_BIAS = 0.6  # exponent; below 1 trains more at high noise, where the attributes are decided


@dataclass(frozen=True)
class Latents:
    """The training set of one process."""

    samples: torch.Tensor  # (n, 4, 16, 16)
    weights: torch.Tensor  # (n, 1, 16, 16), of each latent cell in the loss
    tokens: torch.Tensor  # (n, captions, 32)


@dataclass(frozen=True)
class Noised:
    """Noised latents, and the UNet's target for them."""

    x_t: torch.Tensor  # (B, 4, 16, 16)
    t: torch.Tensor  # (B,)
    v: torch.Tensor  # (B, 4, 16, 16)


def new_scheduler() -> DDIMScheduler:
    """v-prediction down to pure noise, so that colours and places are learnt from the text alone
    at the first step.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def drawn_once(
    path: Path,
    encode: Callable[[np.random.Generator], tuple[torch.Tensor, ...]],
    num_batches: int,
    seed: int,
) -> tuple[torch.Tensor, ...]:
    """This process's training set: batches drawn and encoded once, then kept next to `path`.

    The file has the name of `path` followed by the process's number.
    """
    path = path.with_name(f"{path.name}-{rank()}-of-{num_processes()}.pt")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        rng = np.random.default_rng([seed, rank()])
        batches = [encode(rng) for _ in range(num_batches)]
        torch.save([torch.cat(parts) for parts in zip(*batches, strict=True)], path)
    return tuple(torch.load(path, weights_only=True))


def encode_captioned(
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    images: list[npt.NDArray[np.uint8]],
    masks: list[Mask],
    captions: list[str],
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples, weights and tokens of a batch, as in `Latents`; captions image by image."""
    cells = functional.adaptive_max_pool2d(torch.from_numpy(np.stack(masks)), LATENT_SIZE)
    with torch.no_grad():
        samples = vae.encode(tensor_from_images(np.stack(images))).latent_dist.mode()
    return (
        samples,
        1 + SHAPE_WEIGHT * cells[:, None],
        tokens_from_captions(tokenizer, captions).view(len(images), CAPTIONS_PER_LATENT, -1),
    )


def draw_captioned(
    latents: Latents, empty: torch.Tensor, rng: np.random.Generator
) -> tuple[npt.NDArray[np.int64], torch.Tensor]:
    """The numbers (B,) of this process's share of a batch, and the tokens (B, 32) of a caption of
    each, some of them `empty` (1, 32).
    """
    share = BATCH // num_processes()
    chosen = rng.integers(len(latents.samples), size=share)
    tokens = latents.tokens[chosen, rng.integers(CAPTIONS_PER_LATENT, size=share)]
    tokens[rng.random(share) < CAPTION_DROPOUT] = empty
    return chosen, tokens


def draw_noised(x0: torch.Tensor, rng: np.random.Generator) -> Noised:
    """Latents (B, 4, 16, 16) under random noise, each at a random timestep."""
    t = torch.from_numpy((1000 * rng.random(len(x0)) ** NOISY_BIAS).astype(np.int64))
    eps = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
    alpha = _alphas_cumprod()[t, None, None, None]
    a, s = alpha.sqrt(), (1 - alpha).sqrt()
    return Noised(a * x0 + s * eps, t, a * eps - s * x0)


def v_prediction_loss(v: torch.Tensor, noised: Noised, weights: torch.Tensor) -> torch.Tensor:
    """The mean squared error of `v` over the latent cells, by their weights (B, 1, 16, 16)."""
    return (weights * (v - noised.v) ** 2).mean() / weights.mean()


@cache
def _alphas_cumprod() -> torch.Tensor:
    return new_scheduler().alphas_cumprod  # (1000,)
