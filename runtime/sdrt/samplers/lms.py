"""LMS: linear multistep on sigmas."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from sdrt.samplers import tables
from sdrt.samplers.options import LIMITS, RESPACING, SPACING, TRAINING, Options, defaults
from sdrt.samplers.prediction import Level, sigma_levels
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt.samplers.sigma_schedule import init_noise_sigma, spaced_sigmas
from sdrt_engines import Array

OPTIONS = defaults(*TRAINING, *SPACING, *RESPACING, *LIMITS)
ORDER = 4


class LmsStep(NamedTuple):
    """One step of LMS."""

    here: Level
    coefficients: tuple[float, ...]  # of the derivatives, the newest first


def lms(x: Array, steps: Sequence[LmsStep], noise: Noise) -> Sampler:
    """The Adams-Bashforth method on uneven sigmas (Crowson, k-diffusion): LMSDiscreteScheduler."""
    derivatives: deque[Array] = deque(maxlen=ORDER)
    for here, coefficients in steps:
        prediction = yield Call(here.scale(x), here.t)
        derivatives.appendleft((x - here.x0(x, prediction)) / here.sigma)
        products = (c * d for c, d in zip(coefficients, derivatives, strict=False))
        x = yield Update(x + sum(products), here.index)
    return x


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of LMSDiscreteScheduler."""
    if options.use_karras_sigmas:  # diffusers' LMS reads these for its other sigmas only
        options = replace(options, sigma_min=None, sigma_max=None)
    timesteps, sigmas = spaced_sigmas(options, request, tables.train_sigmas(options))
    timesteps = timesteps.astype(np.float32)
    sigmas = np.append(sigmas, 0).astype(np.float32)
    levels = sigma_levels(timesteps, sigmas[:-1], options.prediction_type)
    return Schedule(
        timesteps=timesteps,
        sigmas=sigmas,
        init_noise_sigma=init_noise_sigma(options, sigmas),
        calls=levels,
        steps=tuple(LmsStep(level, lms_coefficients(sigmas, level.index)) for level in levels),
        sampler=lms,
    )


def lms_coefficients(sigmas: Array, i: int) -> tuple[float, ...]:
    """The weights of the last four derivatives in the step from `sigmas[i]`, the newest first.

    Each is the integral of a Lagrange polynomial over the step, of degree three at most, for which
    Gauss' two points are exact.
    """
    nodes = sigmas[max(0, i - ORDER + 1) : i + 1][::-1].astype(np.float64)
    middle, half = (sigmas[i + 1] + nodes[0]) / 2, (sigmas[i + 1] - nodes[0]) / 2
    points = middle + half * np.array([-1, 1]) / np.sqrt(3)
    coefficients = []
    for k, node in enumerate(nodes):
        others = np.delete(nodes, k)
        basis = np.prod((points[:, None] - others) / (node - others), axis=1)  # (2,)
        coefficients.append(float(half * basis.sum()))
    return tuple(coefficients)
