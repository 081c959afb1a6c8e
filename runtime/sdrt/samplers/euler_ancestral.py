"""Euler's method with fresh noise in every step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sdrt.samplers import tables
from sdrt.samplers.options import SPACING, TRAINING, Options, defaults
from sdrt.samplers.prediction import Level, sigma_levels
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt.samplers.sigma_schedule import init_noise_sigma, spaced_sigmas
from sdrt_engines import Array

OPTIONS = defaults(*TRAINING, *SPACING, "rescale_betas_zero_snr")


class EulerAncestralStep(NamedTuple):
    """One step: down below the next sigma, then up to it with noise."""

    here: Level
    sigma_down: float
    sigma_up: float


def euler_ancestral(x: Array, steps: Sequence[EulerAncestralStep], noise: Noise) -> Sampler:
    """Crowson's `sample_euler_ancestral` (k-diffusion): EulerAncestralDiscreteScheduler."""
    for here, sigma_down, sigma_up in steps:
        prediction = yield Call(here.scale(x), here.t)
        derivative = (x - here.x0(x, prediction)) / here.sigma
        x_down = x + derivative * (sigma_down - here.sigma)
        x = yield Update(x_down + noise() * sigma_up, here.index)
    return x


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of EulerAncestralDiscreteScheduler."""
    timesteps, sigmas = spaced_sigmas(options, request, tables.train_sigmas(options))
    sigmas = np.append(sigmas, 0).astype(np.float32)
    levels = sigma_levels(timesteps, sigmas[:-1], options.prediction_type)
    down_up = (column.tolist() for column in ancestral_sigmas(sigmas))
    return Schedule(
        timesteps=timesteps,
        sigmas=sigmas,
        init_noise_sigma=init_noise_sigma(options, sigmas),
        calls=levels,
        steps=tuple(EulerAncestralStep(*row) for row in zip(levels, *down_up, strict=True)),
        sampler=euler_ancestral,
    )


def ancestral_sigmas(sigmas: Array) -> tuple[Array, Array]:
    """The sigmas to which steps between `sigmas` (n + 1,) go down, and the noise added, (n,)."""
    here, there = sigmas[:-1], sigmas[1:]
    up = np.sqrt(there**2 * (here**2 - there**2) / here**2)
    down = np.sqrt(there**2 - up**2)
    return down, up
