"""PNDM: linear multistep on the manifold, started with Runge-Kutta or with a repeated step."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers import tables
from sdrt.samplers.options import SPACING, TRAINING, Options, defaults
from sdrt.samplers.prediction import Level, variance_preserving_levels
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt_engines import Array

OPTIONS = defaults(
    *TRAINING,
    *SPACING,
    "skip_prk_steps",
    timestep_spacing="leading",
    set_alpha_to_one=False,
)
ADAMS_BASHFORTH = (
    (1.0,),
    (-1 / 2, 3 / 2),
    (5 / 12, -16 / 12, 23 / 12),
    (-9 / 24, 37 / 24, -59 / 24, 55 / 24),
)
RUNGE_KUTTA = (1 / 6, 1 / 3, 1 / 3, 1 / 6)  # weights of a step's four predictions
NUM_PRK_CALLS = 12  # three steps of four calls


class Transfer(NamedTuple):
    """Equation 11 of Liu et al. 2022: from one level to another along a given noise."""

    level: Level
    c_x: float
    c_eps: float

    def __call__(self, x: Array, prediction: Array) -> Array:
        """`x`, of the first level, at the second."""
        return self.c_x * x + self.c_eps * self.level.eps(x, prediction)


class PndmStep(NamedTuple):
    """One call of the model, and the transfer that follows it."""

    here: Level
    transfer: Transfer
    repeat: Transfer  # the transfer of the step before, repeated with a better prediction


def plms(x: Array, steps: Sequence[PndmStep], noise: Noise, ets: Sequence[Array] = ()) -> Sampler:
    """Equation 12 of Liu et al. 2022 (https://arxiv.org/abs/2202.09778): PNDMScheduler.

    `ets` are the predictions of preceding Runge-Kutta steps. Without them the first step is
    repeated with the mean of the predictions at both its ends.
    """
    ets = list(ets)
    x_first, warm = x, bool(ets)
    for counter, (here, transfer, repeat) in enumerate(steps):
        e = yield Call(here.scale(x), here.t)
        if counter == 1 and not warm:
            x = yield Update(repeat(x_first, (e + ets[-1]) / 2), here.index)
        else:
            ets = [*ets[-3:], e]
            x = yield Update(transfer(x, _adams_bashforth(ets)), here.index)
    return x


def prk_plms(x: Array, steps: Sequence[PndmStep], noise: Noise) -> Sampler:
    """The same after three pseudo Runge-Kutta steps (equation 13) of four calls each."""
    if steps[0].here.index:
        raise SamplerError(
            f"PNDM with Runge-Kutta steps starts at timestep 0 of its schedule, got "
            f"{steps[0].here.index}: choose another scheduler"
        )
    return _prk_plms(x, steps, noise)


def _prk_plms(x: Array, steps: Sequence[PndmStep], noise: Noise) -> Sampler:
    ets, x_first, e_mean = [], x, np.zeros_like(x)
    for counter, (here, transfer, _) in enumerate(steps[:NUM_PRK_CALLS]):
        e = yield Call(here.scale(x), here.t)
        stage = counter % 4
        if stage == 0:
            x_first, e_mean = x, np.zeros_like(x)
            ets.append(e)
        e_mean = e_mean + e * RUNGE_KUTTA[stage]
        x = yield Update(transfer(x_first, e if stage < 3 else e_mean), here.index)
    return (yield from plms(x, steps[NUM_PRK_CALLS:], noise, ets))


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of PNDMScheduler."""
    ascending = tables.diffusion_timesteps(options, request)[::-1]
    stride = tables.stride(options, request)
    if options.skip_prk_steps:  # the second timestep comes twice
        timesteps = np.concatenate([ascending, ascending[-2:-1]])
        timesteps = np.sort(timesteps)[::-1]
        sources, targets = timesteps, timesteps - stride
    else:
        timesteps, sources, targets = _prk_schedule(ascending, stride)
    alphas_cumprod = tables.alphas_cumprod_from_options(options, finite_sigmas=True)
    transfers = _transfers(options, alphas_cumprod, sources, targets)
    repeats = _transfers(options, alphas_cumprod, timesteps + stride, timesteps)
    levels = variance_preserving_levels(
        timesteps, alphas_cumprod[timesteps], options.prediction_type
    )
    return Schedule(
        timesteps=timesteps,
        sigmas=None,
        init_noise_sigma=1.0,
        calls=levels,
        steps=tuple(PndmStep(*row) for row in zip(levels, transfers, repeats, strict=True)),
        sampler=plms if options.skip_prk_steps else prk_plms,
    )


def _prk_schedule(ascending: Array, stride: int) -> tuple[Array, Array, Array]:
    """The timestep of each call, and the timesteps between which it moves the sample."""
    if len(ascending) < 4:
        raise SamplerError(
            f"num_inference_steps: got {len(ascending)}, expected at least 4 for PNDM with "
            "Runge-Kutta steps: take more, or choose another scheduler"
        )
    half = stride // 2
    ends = (ascending[-4:, None] + [0, half]).ravel()[:-1]
    prk = ends.repeat(2)[1:-1][::-1]
    rest = ascending[:-3][::-1]
    sources = np.concatenate([prk[::4].repeat(4), rest])
    targets = np.concatenate([prk - np.tile([half, 0], len(prk) // 2), rest - stride])
    return np.concatenate([prk, rest]), sources, targets


def _transfers(
    options: Options, alphas_cumprod: Array, sources: Array, targets: Array
) -> list[Transfer]:
    final = np.float32(1) if options.set_alpha_to_one else alphas_cumprod[0]
    a = alphas_cumprod[sources.clip(max=len(alphas_cumprod) - 1)]
    a_next = tables.at_or(alphas_cumprod, targets, final)
    c_x = np.sqrt(a_next / a)
    c_eps = (a - a_next) / (a * np.sqrt(1 - a_next) + np.sqrt(a * (1 - a) * a_next))
    levels = variance_preserving_levels(sources, a, options.prediction_type)
    return [Transfer(*row) for row in zip(levels, c_x.tolist(), c_eps.tolist(), strict=True)]


def _adams_bashforth(ets: Sequence[Array]) -> Array:
    """The predictions so far, the newest last, extrapolated over the next step."""
    weights = ADAMS_BASHFORTH[len(ets) - 1]
    return np.asarray(sum(e * weight for e, weight in zip(ets, weights, strict=True)))
