"""Heun's method: Euler's step, corrected with the derivative at its end."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np

from sdrt.samplers import tables
from sdrt.samplers.options import LIMITS, RESPACING, SPACING, TRAINING, Options, defaults
from sdrt.samplers.prediction import Interval, Limit, limit_from_options, sigma_levels
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt.samplers.sigma_schedule import init_noise_sigma, spaced_sigmas
from sdrt_engines import Array

OPTIONS = defaults(
    *TRAINING,
    *SPACING,
    *RESPACING,
    *LIMITS,
    "clip_sample",
    "clip_sample_range",
    beta_start=0.00085,
    beta_end=0.012,
)


def heun(x: Array, steps: Sequence[Interval], noise: Noise, *, limit: Limit) -> Sampler:
    """Algorithm 1 of Karras et al. 2022 (https://arxiv.org/abs/2206.00364): HeunDiscreteScheduler.

    Two calls per step, except in the last: it goes to sigma 0 by Euler's method.
    """
    for here, there in steps:
        dt = there.sigma - here.sigma
        prediction = yield Call(here.scale(x), here.t)
        derivative = (x - limit(here.x0(x, prediction))) / here.sigma
        x_euler = yield Update(x + derivative * dt, here.index)
        if there.sigma == 0:
            return x_euler
        prediction = yield Call(there.scale(x_euler), there.t)
        derivative_there = (x_euler - limit(there.x0(x_euler, prediction))) / there.sigma
        x = yield Update(x + (derivative + derivative_there) * (dt / 2), there.index)
    return x


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of HeunDiscreteScheduler."""
    timesteps, sigmas = spaced_sigmas(options, request, tables.train_sigmas(options))
    timesteps = twice_but_first(timesteps).astype(np.float32)
    sigmas = np.append(twice_but_first(sigmas), 0).astype(np.float32)
    levels = sigma_levels(np.append(timesteps, 0), sigmas, options.prediction_type)
    return Schedule(
        timesteps=timesteps,
        sigmas=sigmas,
        init_noise_sigma=init_noise_sigma(options, sigmas),
        calls=levels[:-1],
        steps=tuple(map(Interval, levels[::2], levels[1::2])),
        sampler=partial(heun, limit=limit_from_options(options)),
        calls_per_step=2,
    )


def twice_but_first(values: Array) -> Array:
    """Each value twice, the first once: a step ends where the next one begins."""
    return values.repeat(2)[1:]
