"""DDIM: deterministic steps through the image that each prediction implies."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sdrt.samplers import tables
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
    "set_alpha_to_one",
    timestep_spacing="leading",
    clip_sample=True,
)


class DdimStep(NamedTuple):
    """One step of DDIM, with the weights of equation 12."""

    here: Level
    alpha_next: float  # of x0
    direction: float  # of eps
    std: float  # of fresh noise


def ddim(
    x: Array,
    steps: Sequence[DdimStep],
    noise: Noise,
    *,
    limit: Limit,
    stochastic: bool,
    use_clipped_model_output: bool,
) -> Sampler:
    """Equation 12 of Song et al. 2020 (https://arxiv.org/abs/2010.02502): DDIMScheduler."""
    for here, alpha_next, direction, std in steps:
        prediction = yield Call(here.scale(x), here.t)
        x0 = limit(here.x0(x, prediction))
        eps = here.eps(x, prediction)
        if use_clipped_model_output:
            eps = (x - here.alpha * x0) / here.sigma
        x_next = alpha_next * x0 + direction * eps
        if stochastic:
            x_next += std * noise()
        x = yield Update(x_next, here.index)
    return x


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of DDIMScheduler, whose steps all span `num_train_timesteps // n`."""
    timesteps = tables.diffusion_timesteps(options, request)
    alphas_cumprod = tables.alphas_cumprod_from_options(options)
    final = np.float32(1) if options.set_alpha_to_one else alphas_cumprod[0]
    a = alphas_cumprod[timesteps]
    a_next = tables.at_or(alphas_cumprod, timesteps - tables.stride(options, request), final)
    std = request.eta * np.sqrt(variance(a, a_next))
    direction = np.sqrt(1 - a_next - std**2)
    levels = variance_preserving_levels(timesteps, a, options.prediction_type)
    columns = (column.tolist() for column in (np.sqrt(a_next), direction, std))
    return Schedule(
        timesteps=timesteps,
        sigmas=None,
        init_noise_sigma=1.0,
        calls=levels,
        steps=tuple(DdimStep(*row) for row in zip(levels, *columns, strict=True)),
        sampler=partial(
            ddim,
            limit=limit_from_options(options),
            stochastic=request.eta > 0,
            use_clipped_model_output=request.use_clipped_model_output,
        ),
    )


def variance(a: Array, a_next: Array) -> Array:
    """The variance of the reverse step between two levels (equation 16 at eta 1), in float32."""
    posterior: Array = (1 - a_next) / (1 - a) * (1 - a / a_next)
    return posterior
