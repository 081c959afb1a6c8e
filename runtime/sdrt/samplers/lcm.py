"""LCM and TCD: a few steps with a model distilled to jump to the image."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from sdrt.errors import SamplerError
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
    "clip_sample",
    "clip_sample_range",
    "set_alpha_to_one",
    "original_inference_steps",
    "timestep_scaling",
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    timestep_spacing="leading",
)
SIGMA_DATA = 0.5


class LcmStep(NamedTuple):
    """One step of LCM: the boundary condition's weights, and the level of the next step."""

    here: Level
    c_skip: float
    c_out: float
    alpha_next: float
    sigma_next: float


def lcm(x: Array, steps: Sequence[LcmStep], noise: Noise, *, limit: Limit) -> Sampler:
    """Algorithm 3 of Luo et al. 2023 (https://arxiv.org/abs/2310.04378): LCMScheduler."""
    for step in steps:
        here = step.here
        prediction = yield Call(here.scale(x), here.t)
        x0 = step.c_out * limit(here.x0(x, prediction)) + step.c_skip * x
        x_next = step.alpha_next * x0 + step.sigma_next * noise() if step.sigma_next else x0
        x = yield Update(x_next, here.index)
    return x


def lcm_schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of LCMScheduler."""
    timesteps = distilled_timesteps(options, request)
    a = tables.alphas_cumprod_from_options(options)[timesteps]
    a_next = np.append(a[1:], np.float32(1))  # the last step ends without noise
    scaled = timesteps.astype(np.float32) * np.float32(options.timestep_scaling)
    c_skip = SIGMA_DATA**2 / (scaled**2 + SIGMA_DATA**2)
    c_out = scaled / np.sqrt(scaled**2 + SIGMA_DATA**2)
    levels = variance_preserving_levels(timesteps, a, options.prediction_type)
    columns = (column.tolist() for column in (c_skip, c_out, np.sqrt(a_next), np.sqrt(1 - a_next)))
    return Schedule(
        timesteps=timesteps,
        sigmas=None,
        init_noise_sigma=1.0,
        calls=levels,
        steps=tuple(LcmStep(*row) for row in zip(levels, *columns, strict=True)),
        sampler=partial(lcm, limit=limit_from_options(options)),
    )


class TcdStep(NamedTuple):
    """One step of TCD: down to level s, and from there up to the next with noise."""

    here: Level
    alpha_s: float
    sigma_s: float
    c_s: float
    c_noise: float


def tcd(x: Array, steps: Sequence[TcdStep], noise: Noise) -> Sampler:
    """Strategic stochastic sampling of Zheng et al. 2024, section 4.2: TCDScheduler.

    https://arxiv.org/abs/2402.19159; its gamma is diffusers' eta.
    """
    for step in steps:
        here = step.here
        prediction = yield Call(here.scale(x), here.t)
        x_s = step.alpha_s * here.x0(x, prediction) + step.sigma_s * here.eps(x, prediction)
        if step.c_noise:
            x_s = step.c_s * x_s + step.c_noise * noise()
        x = yield Update(x_s, here.index)
    return x


def tcd_schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of TCDScheduler."""
    timesteps = distilled_timesteps(options, request)
    alphas_cumprod = tables.alphas_cumprod_from_options(options)
    t_next = np.append(timesteps[1:], 0)
    t_s = np.floor(np.float32(1 - request.eta) * t_next.astype(np.float32)).astype(np.int64)
    a, a_next, a_s = (alphas_cumprod[t] for t in (timesteps, t_next, t_s))
    levels = variance_preserving_levels(timesteps, a, options.prediction_type)
    ratio = a_next / a_s
    weights = (np.sqrt(a_s), np.sqrt(1 - a_s), np.sqrt(ratio), np.sqrt(1 - ratio))
    columns = (column.tolist() for column in weights)
    return Schedule(
        timesteps=timesteps,
        sigmas=None,
        init_noise_sigma=1.0,
        calls=levels,
        steps=tuple(TcdStep(*row) for row in zip(levels, *columns, strict=True)),
        sampler=tcd,
    )


def distilled_timesteps(options: Options, request: ScheduleRequest) -> Array:
    """Timesteps chosen from the `original_inference_steps` that the model was distilled on."""
    total, original = options.num_train_timesteps, options.original_inference_steps
    if request.timesteps is not None:
        return tables.whole_timesteps(request.timesteps, total)
    n = tables.check_num_steps(request.num_inference_steps, original)
    reach = int(original * request.strength)
    if n > reach:
        raise SamplerError(
            f"strength: got {request.strength:g}, which leaves {reach} of the {original} steps of "
            f"distillation: give at least {math.ceil(1000 * n / original) / 1000:g} for {n} steps"
        )
    falling = (np.arange(1, reach + 1) * (total // original) - 1)[::-1]
    picked = np.floor(np.linspace(0, reach, n, endpoint=False)).astype(np.int64)
    return falling[picked]
