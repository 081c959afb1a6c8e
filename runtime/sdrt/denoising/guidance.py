"""Classifier-free guidance: two predictions in, one out."""

from __future__ import annotations

import numpy as np

from sdrt_engines import Array


def guide(
    unconditional: Array, conditional: Array, guidance_scale: float, rescale: float = 0.0
) -> Array:
    """The guided prediction (B, C, h, w) (Ho & Salimans 2022, https://arxiv.org/abs/2207.12598).

    `rescale` in 0..1 scales the standard deviation back to that of the conditional prediction,
    which avoids over-exposure at high guidance (Lin et al. 2023, https://arxiv.org/abs/2305.08891,
    section 3.4).
    """
    guided = unconditional + guidance_scale * (conditional - unconditional)
    if rescale == 0.0:
        return guided
    axes = tuple(range(1, guided.ndim))
    spread = conditional.std(axes, ddof=1, keepdims=True) / guided.std(axes, ddof=1, keepdims=True)
    rescaled: Array = guided * (rescale * spread + (1 - rescale))
    return rescaled


def guidance_scale_embedding(guidance_scale: float, size: int) -> Array:
    """The guidance scale as sines and cosines (1, size), which distilled UNets take as
    `timestep_cond`.

    Source: diffusers' `get_guidance_scale_embedding` (Luo et al. 2023,
    https://arxiv.org/abs/2310.04378).
    """
    half = size // 2
    step = np.log(np.float32(10000)) / np.float32(half - 1)
    exponents = np.arange(half, dtype=np.float32) * -step
    # The angles are large, so torch's roundings to float32 are visible in them; its exp is closer
    # to the float64 one than numpy's float32 exp.
    frequencies = np.exp(exponents.astype(np.float64)).astype(np.float32)
    angles = np.float32(guidance_scale - 1) * np.float32(1000) * frequencies
    return np.concatenate([np.sin(angles), np.cos(angles), np.zeros(size % 2, np.float32)])[None]
