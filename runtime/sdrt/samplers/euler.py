"""Euler's method on sigmas."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdrt.errors import SamplerError, quoted
from sdrt.samplers import tables
from sdrt.samplers.options import LIMITS, RESPACING, SPACING, TRAINING, Options, defaults
from sdrt.samplers.prediction import Interval, intervals, sigma_levels
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest, require_descending
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
_MIN_SIGMA = 1e-6  # steps divide by it


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


def _check_sigmas(sigmas: Array, all_sigmas: Array) -> None:
    """`SamplerError` unless these are n levels that the model knows, and the end."""
    if len(sigmas) < 2 or sigmas[-2] < _MIN_SIGMA:
        raise SamplerError(
            f"sigmas: got {quoted(sigmas.tolist())}, expected levels of at least {_MIN_SIGMA:g}, "
            "and behind them the last one, such as 0"
        )
    if sigmas[0] > 2 * all_sigmas[-1]:
        raise SamplerError(
            f"sigmas: got {sigmas[0]:g} as the first, expected {all_sigmas[-1]:.4g} or less: the "
            "model was trained for no more noise"
        )
    at_minimum = sigmas[-1] == sigmas[-2] == all_sigmas[0]  # final_sigmas_type="sigma_min"
    require_descending("sigmas", (sigmas[:-1] if at_minimum else sigmas).tolist())


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of EulerDiscreteScheduler."""
    all_sigmas = tables.train_sigmas(options)
    if request.timesteps is not None and _continuous(options):
        raise SamplerError("timesteps cannot be given to a model of noise levels: give sigmas")
    if request.sigmas is not None:
        sigmas = np.asarray(request.sigmas, np.float32)
        _check_sigmas(sigmas, all_sigmas)
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
