"""The schedule that DPM-Solver, UniPC and DEIS share, and the data of one step."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers import tables
from sdrt.samplers.options import RESPACING, Options
from sdrt.samplers.prediction import Level, levels
from sdrt.samplers.schedule import SamplerFn, Schedule, ScheduleRequest
from sdrt_engines import Array


class SolverStep(NamedTuple):
    """From one noise level to the next, by a formula of at most this order."""

    here: Level
    there: Level
    order: int


def solver_sigmas(
    options: Options,
    request: ScheduleRequest,
    *,
    last_timestep: int | None = None,
    whole: bool = True,
) -> tuple[Array, Array]:
    """Timesteps and sigmas from high to low, (n,) each; the final sigma is not among them.

    `whole`: Karras' and Lu's timesteps are rounded, not cut. `last_timestep` is as in
    `tables.solver_timesteps`.
    """
    all_sigmas = tables.train_sigmas(options)
    if request.timesteps is not None:
        return _custom_schedule(options, request.timesteps, all_sigmas)
    n = tables.check_num_steps(request.num_inference_steps, options.num_train_timesteps)
    if options.use_lu_lambdas and not options.use_karras_sigmas:
        sigmas = tables.lu_sigmas(float(all_sigmas[-1]), float(all_sigmas[0]), n)
        return _timesteps_of(sigmas, all_sigmas, rounded=whole), sigmas
    respaced = tables.respaced_sigmas(options, all_sigmas[-1], all_sigmas[0], n)
    if respaced is not None:
        rounded = options.use_karras_sigmas and whole
        return _timesteps_of(respaced, all_sigmas, rounded=rounded), respaced
    if options.use_flow_sigmas:
        sigmas = tables.flow_sigmas(options, n)
        return sigmas * options.num_train_timesteps, sigmas
    timesteps = tables.solver_timesteps(options, n, last_timestep)
    return timesteps, tables.interpolated_sigmas(timesteps, all_sigmas)


def _custom_schedule(
    options: Options, timesteps: Sequence[float], all_sigmas: Array
) -> tuple[Array, Array]:
    for name in (*RESPACING, "use_lu_lambdas", "use_flow_sigmas"):
        if getattr(options, name):
            raise SamplerError(f"timesteps cannot be given together with {name}: give one of them")
    whole = tables.whole_timesteps(timesteps, options.num_train_timesteps)
    return whole, tables.interpolated_sigmas(whole, all_sigmas)


def _timesteps_of(sigmas: Array, all_sigmas: Array, *, rounded: bool) -> Array:
    timesteps = tables.timesteps_from_sigmas(sigmas, all_sigmas)
    return timesteps.round() if rounded else timesteps


def last_timestep(options: Options) -> int:
    """The end (exclusive) of the timesteps whose lambda is at least `lambda_min_clipped`."""
    alphas_cumprod = tables.alphas_cumprod_from_options(options, finite_sigmas=True)
    lambdas = np.log(np.sqrt(alphas_cumprod)) - np.log(np.sqrt(1 - alphas_cumprod))
    return options.num_train_timesteps - int((lambdas < options.lambda_min_clipped).sum())


def final_sigma(options: Options) -> float:
    """The last sigma by `final_sigmas_type`: 0, or the lowest of the training."""
    return 0.0 if options.final_sigmas_type == "zero" else float(tables.train_sigmas(options)[0])


def with_flow_shift(options: Options, mu: float | None) -> float:
    """`flow_shift`, or exp(mu) if the image's size gives `mu` (use_dynamic_shifting)."""
    if mu is None:
        return options.flow_shift
    if not options.use_dynamic_shifting or options.time_shift_type != "exponential":
        raise SamplerError("mu is given, but use_dynamic_shifting=true with exponential is not set")
    return math.exp(mu)


def solver_schedule(
    options: Options,
    timesteps: Array,
    sigmas: Array,
    orders: Sequence[int],
    sampler: SamplerFn,
) -> Schedule:
    """The schedule for n `timesteps` and n + 1 `sigmas`, with a highest order for each step."""
    timesteps, sigmas = timesteps.astype(np.int64), sigmas.astype(np.float32)
    all_levels = solver_levels(options, timesteps, sigmas)
    return Schedule(
        timesteps=timesteps,
        sigmas=sigmas,
        init_noise_sigma=1.0,
        calls=all_levels[:-1],
        steps=tuple(
            SolverStep(*pair, order)
            for pair, order in zip(pairwise(all_levels), orders, strict=True)
        ),
        sampler=sampler,
    )


def solver_levels(options: Options, timesteps: Array, sigmas: Array) -> tuple[Level, ...]:
    """A level for each sigma, the final one too: `alpha² + sigma² = 1`, or for flow sigmas
    `alpha + sigma = 1`.

    Raises `SamplerError` if the noise does not fall, or the options contradict each other.
    """
    falls = np.diff(sigmas[:-1])
    if (falls > 0).any() or (falls.size and not falls.any()):
        raise SamplerError(
            f"num_inference_steps: got {len(timesteps)}, too many for this schedule, whose "
            "noise would not fall: use fewer, or another timestep_spacing"
        )
    flow = options.prediction_type == "flow_prediction"
    if flow != options.use_flow_sigmas and (flow or options.prediction_type == "v_prediction"):
        raise SamplerError(
            f"prediction_type {options.prediction_type!r} cannot be combined with use_flow_sigmas="
            f"{str(options.use_flow_sigmas).lower()}: flow_prediction needs flow sigmas, "
            "v_prediction does not have them"
        )
    timesteps = np.append(timesteps, 0)
    if not options.use_flow_sigmas:
        alphas = 1 / np.sqrt(sigmas**2 + 1)
        return levels(timesteps, alphas, sigmas * alphas, options.prediction_type)
    if sigmas[0] >= 1:
        raise SamplerError(
            f"use_flow_sigmas needs sigmas below 1, got {sigmas[0]:.4g}: set use_karras_sigmas and "
            "the like to false"
        )
    return levels(timesteps, 1 - sigmas, sigmas, options.prediction_type)
