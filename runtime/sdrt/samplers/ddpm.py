"""DDPM: ancestral sampling from the posterior."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers import tables
from sdrt.samplers.ddim import variance
from sdrt.samplers.options import SPACING, THRESHOLDING, TRAINING, Options, defaults
from sdrt.samplers.prediction import (
    Level,
    Limit,
    limit_from_options,
    variance_preserving_levels,
)
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt_engines import Array

OPTIONS = defaults(
    *TRAINING,
    *SPACING,
    *THRESHOLDING,
    "rescale_betas_zero_snr",
    "clip_sample_range",
    timestep_spacing="leading",
    clip_sample=True,
    variance_type="fixed_small",
)
FIXED = ("fixed_small", "fixed_small_log", "fixed_large")
LEARNED = ("learned", "learned_range")


class DdpmStep(NamedTuple):
    """One step of DDPM: the weights of the posterior's mean, and its variance's bounds."""

    here: Level
    c_x0: float
    c_x: float
    small: float  # the variance if the data were one point
    large: float  # the variance if the data were noise: beta


def ddpm(
    x: Array, steps: Sequence[DdpmStep], noise: Noise, *, limit: Limit, variance_type: str
) -> Sampler:
    """Equation 7 of Ho et al. 2020 (https://arxiv.org/abs/2006.11239): DDPMScheduler."""
    for step in steps:
        here = step.here
        prediction = yield Call(here.scale(x), here.t)
        prediction, predicted_variance = _split(prediction, x, variance_type)
        x0 = limit(here.x0(x, prediction))
        x_next = step.c_x0 * x0 + step.c_x * x
        if here.t > 0:
            x_next += _std(step, variance_type, predicted_variance) * noise()
        x = yield Update(x_next, here.index)
    return x


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of DDPMScheduler."""
    if options.variance_type not in (*FIXED, *LEARNED):
        raise SamplerError(
            f"variance_type: got {options.variance_type!r}, expected one of "
            f"{', '.join((*FIXED, *LEARNED))}"  # diffusers' fixed_large_log gives NaN
        )
    timesteps = tables.diffusion_timesteps(options, request)
    alphas_cumprod = tables.alphas_cumprod_from_options(options)
    a = alphas_cumprod[timesteps]
    a_next = np.append(a[1:], np.float32(1))
    beta = 1 - a / a_next
    c_x0 = np.sqrt(a_next) * beta / (1 - a)
    c_x = np.sqrt(a / a_next) * (1 - a_next) / (1 - a)
    small = variance(a, a_next).clip(1e-20)
    levels = variance_preserving_levels(timesteps, a, options.prediction_type)
    columns = (column.tolist() for column in (c_x0, c_x, small, beta))
    return Schedule(
        timesteps=timesteps,
        sigmas=None,
        init_noise_sigma=1.0,
        calls=levels,
        steps=tuple(DdpmStep(*row) for row in zip(levels, *columns, strict=True)),
        sampler=partial(
            ddpm, limit=limit_from_options(options), variance_type=options.variance_type
        ),
    )


def _std(step: DdpmStep, variance_type: str, predicted: Array | None) -> Array | float:
    """The spread of the fresh noise."""
    if variance_type == "fixed_large":
        return float(np.sqrt(step.large))
    if predicted is None:
        return float(np.sqrt(step.small))
    if variance_type == "learned":
        return np.sqrt(predicted)
    share = (predicted + 1) / 2  # Nichol & Dhariwal 2021, equation 15
    std: Array = np.exp(0.5 * (share * np.log(step.large) + (1 - share) * np.log(step.small)))
    return std


def _split(prediction: Array, x: Array, variance_type: str) -> tuple[Array, Array | None]:
    """The prediction (B, C, h, w), and the variance if the model predicts one: (B, 2C, h, w)."""
    if variance_type in FIXED:
        return prediction, None
    channels = x.shape[1]
    if prediction.shape[1] != 2 * channels:
        raise SamplerError(
            f"variance_type {variance_type!r}: the model returns {prediction.shape[1]} channels, "
            f"expected {2 * channels}: use variance_type 'fixed_small'"
        )
    return prediction[:, :channels], prediction[:, channels:]
