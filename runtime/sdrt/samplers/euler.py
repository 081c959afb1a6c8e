"""Euler's method on sigmas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers import tables
from sdrt.samplers.options import LIMITS, RESPACING, SPACING, TRAINING, Options, defaults
from sdrt.samplers.prediction import Interval, intervals, sigma_levels
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt.samplers.sigma_schedule import init_noise_sigma, spaced_sigmas
from sdrt_engines import Array

OPTIONS = defaults(
    *TRAINING,
    *SPACING,
    *RESPACING,
    *LIMITS,
    "rescale_betas_zero_snr",
    "interpolation_type",
    "timestep_type",
    "final_sigmas_type",
)


def euler(x: Array, steps: Sequence[Interval], noise: Noise) -> Sampler:
    """Algorithm 2 of Karras et al. 2022 without churn: EulerDiscreteScheduler.

    https://arxiv.org/abs/2206.00364
    """
    for here, there in steps:
        prediction = yield Call(here.scale(x), here.t)
        x0 = here.x0(x, prediction)
        derivative = (x - x0) / here.sigma
        x = yield Update(x + derivative * (there.sigma - here.sigma), here.index)
    return x


def _continuous(options: Options) -> bool:
    """True if the model takes log sigma / 4 instead of a timestep (EDM)."""
    return options.timestep_type == "continuous" and options.prediction_type == "v_prediction"


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of EulerDiscreteScheduler."""
    all_sigmas = tables.train_sigmas(options)
    if request.sigmas is not None:
        sigmas = np.asarray(request.sigmas, np.float32)
        if len(sigmas) < 2 or not (sigmas[:-1] > 0).all():
            raise SamplerError(
                f"sigmas: got {list(request.sigmas)}, expected positive ones and a last one"
            )
        timesteps = tables.timesteps_from_sigmas(sigmas[:-1], all_sigmas)
    else:
        timesteps, sigmas = spaced_sigmas(options, request, all_sigmas)
        last = all_sigmas[0] if options.final_sigmas_type == "sigma_min" else 0
        sigmas = np.append(sigmas, last).astype(np.float32)
    timesteps = timesteps.astype(np.float32)
    if _continuous(options):
        timesteps = 0.25 * np.log(sigmas[: len(timesteps)])
    levels = sigma_levels(
        np.append(timesteps, 0), sigmas[: len(timesteps) + 1], options.prediction_type
    )
    return Schedule(
        timesteps=timesteps,
        sigmas=sigmas,
        init_noise_sigma=init_noise_sigma(options, sigmas),
        calls=levels[:-1],
        steps=intervals(levels),
        sampler=euler,
    )
