"""DPM-Solver-2 of k-diffusion: each step uses the derivative at its middle in log sigma."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sdrt.samplers import tables
from sdrt.samplers.euler_ancestral import ancestral_sigmas
from sdrt.samplers.heun import twice_but_first
from sdrt.samplers.options import LIMITS, RESPACING, SPACING, TRAINING, Options, defaults
from sdrt.samplers.prediction import Level, sigma_levels
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt.samplers.sigma_schedule import init_noise_sigma, spaced_sigmas
from sdrt_engines import Array

OPTIONS = defaults(*TRAINING, *SPACING, *RESPACING, *LIMITS, beta_start=0.00085, beta_end=0.012)


class Kdpm2Step(NamedTuple):
    """One step through a middle level; its sigma is 0 in the last step, which is Euler's."""

    here: Level
    middle: Level
    sigma_down: float
    sigma_up: float


def kdpm2(x: Array, steps: Sequence[Kdpm2Step], noise: Noise) -> Sampler:
    """Crowson's `sample_dpm_2` and `sample_dpm_2_ancestral`: KDPM2(Ancestral)DiscreteScheduler.

    DPM-Solver-2 (Lu et al. 2022, https://arxiv.org/abs/2206.00927) with the midpoint in log sigma
    (Karras et al. 2022, algorithm 2).
    """
    for here, middle, sigma_down, sigma_up in steps:
        prediction = yield Call(here.scale(x), here.t)
        derivative = (x - here.x0(x, prediction)) / here.sigma
        x_middle = yield Update(x + derivative * (middle.sigma - here.sigma), here.index)
        if middle.sigma == 0:
            return x_middle
        prediction = yield Call(middle.scale(x_middle), middle.t)
        derivative = (x_middle - middle.x0(x_middle, prediction)) / middle.sigma
        x = x + derivative * (sigma_down - here.sigma)
        if sigma_up > 0:
            x = x + noise() * sigma_up
        x = yield Update(x, middle.index)
    return x


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of KDPM2DiscreteScheduler."""
    timesteps, sigmas = _spaced_sigmas(options, request)
    sigmas_down, sigmas_up = sigmas[1:], np.zeros_like(sigmas[1:])
    return _schedule_with_middles(options, timesteps, sigmas, sigmas_down, sigmas_up)


def ancestral_schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of KDPM2AncestralDiscreteScheduler."""
    timesteps, sigmas = _spaced_sigmas(options, request)
    return _schedule_with_middles(options, timesteps, sigmas, *ancestral_sigmas(sigmas))


def _schedule_with_middles(
    options: Options, timesteps: Array, sigmas: Array, sigmas_down: Array, sigmas_up: Array
) -> Schedule:
    all_sigmas = tables.train_sigmas(options)
    with np.errstate(divide="ignore"):  # log 0: no middle between the last sigma and zero
        middle = np.exp((np.log(sigmas[:-1]) + np.log(sigmas_down)) / 2)
    between = tables.timesteps_from_sigmas(middle, all_sigmas).astype(timesteps.dtype)
    asked = np.stack([timesteps, between], axis=1).ravel()
    levels = sigma_levels(
        asked, np.stack([sigmas[:-1], middle], axis=1).ravel(), options.prediction_type
    )
    down_up = (column.tolist() for column in (sigmas_down, sigmas_up))
    doubled = np.concatenate([twice_but_first(sigmas), sigmas[-1:]])
    return Schedule(
        timesteps=asked[:-1],
        sigmas=doubled,
        init_noise_sigma=init_noise_sigma(options, sigmas),
        calls=levels[:-1],
        steps=tuple(
            Kdpm2Step(*row) for row in zip(levels[::2], levels[1::2], *down_up, strict=True)
        ),
        sampler=kdpm2,
        calls_per_step=2,
        added=sigma_levels(asked[:-1], doubled[: len(asked) - 1], options.prediction_type),
    )


def _spaced_sigmas(options: Options, request: ScheduleRequest) -> tuple[Array, Array]:
    timesteps, sigmas = spaced_sigmas(options, request, tables.train_sigmas(options))
    if options.use_karras_sigmas:
        timesteps = timesteps.round()
    return timesteps, np.append(sigmas, 0).astype(np.float32)
