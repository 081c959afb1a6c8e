"""DPM-Solver and DPM-Solver++, singlestep: blocks of calls, each solved from the block's start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers.dpm_solver import SOLVER, Solver, solver_from_options
from sdrt.samplers.exponential import History, combine, remembered, rise, span_between
from sdrt.samplers.options import FLOW, LIMITS, RESPACING, THRESHOLDING, TRAINING, Options, defaults
from sdrt.samplers.prediction import Level
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt.samplers.solver_schedule import (
    SolverStep,
    final_sigma,
    last_timestep,
    solver_schedule,
    solver_sigmas,
    with_flow_shift,
)
from sdrt_engines import Array

OPTIONS = defaults(
    *TRAINING,
    *RESPACING,
    *THRESHOLDING,
    *SOLVER,
    *FLOW,
    *LIMITS,
    lower_order_final=False,
)


def dpm_solver_singlestep(
    x: Array, steps: Sequence[SolverStep], noise: Noise, *, solver: Solver
) -> Sampler:
    """DPM-Solver-1 to 3, Lu et al. 2022 (https://arxiv.org/abs/2206.00927, section 3.2), and
    DPM-Solver++(2S): DPMSolverSinglestepScheduler.
    """
    history: History = []
    for step in steps:
        prediction = yield Call(x, step.here.t)
        history = remembered(history, step.here, solver.read(step.here, x, prediction))
        z = noise() if solver.stochastic else None
        block = history[: step.order]
        if len(block) == 1:
            x_start = x
        x = singlestep_update(solver, x_start, block, step.there, z)
        x = yield Update(x, step.here.index)
    return x


def singlestep_update(solver: Solver, x: Array, block: History, t: Level, z: Array | None) -> Array:
    """`x` at level t, from `x` at the start of the block and the outputs since then."""
    *later, (s, m) = block
    span = span_between(solver.algorithm, s, t)
    terms = [(span.decay, x), (span.w0, m)]
    slopes = [(r, (m_i - m) * (1 / r)) for r, m_i in _fractions(span.h, s, later)]
    if len(slopes) == 1:
        terms.append((span.w1 if solver.kind == "heun" else span.w0 / 2, slopes[0][1]))
    elif len(slopes) == 2:
        (r0, D1_1), (r1, D1_0) = slopes
        if solver.kind == "heun":
            terms.append((span.w1, (D1_0 * r0 - D1_1 * r1) * (1 / (r0 - r1))))
            terms.append((span.w2, (D1_1 - D1_0) * (2 / (r0 - r1))))
        else:
            terms.append((span.w1, D1_1))
    if z is not None:
        terms.append((span.spread, z))
    return combine(*terms)


def _fractions(h: float, s: Level, later: History) -> list[tuple[float, Array]]:
    """The fraction of the span from s at which each later output lies, newest first."""
    return [(rise(s, s_i) / h, m_i) for s_i, m_i in later]


def orders(options: Options, n: int) -> list[int]:
    """The order of each of n steps: it rises within a block, 1 2 3 1 2 3.

    A last block that does not fit, or that ends at sigma 0, is split into lower orders.
    """
    order, final_zero = options.solver_order, options.final_sigmas_type == "zero"
    block = list(range(1, order + 1))
    if not (options.lower_order_final or n % order or final_zero):
        return block * (n // order)
    if order == 3:
        end = {0: [1, 2, 1], 1: [1], 2: [1, 2]}[n % 3]
    elif order == 2:
        end = {0: [1, 1], 1: [1]}[n % 2]
    else:
        end = [1]
    highest = block * ((n - len(end)) // order) + end
    if final_zero:
        highest[-1] = 1
    return highest


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of DPMSolverSinglestepScheduler."""
    solver = solver_from_options(options)
    if solver.algorithm == "sde-dpmsolver":
        raise SamplerError(
            "algorithm_type 'sde-dpmsolver' has no singlestep solver: use 'sde-dpmsolver++'"
        )
    options = replace(options, flow_shift=with_flow_shift(options, request.mu))
    timesteps, sigmas = solver_sigmas(options, request, last_timestep=last_timestep(options))
    return solver_schedule(
        options,
        timesteps,
        np.append(sigmas, final_sigma(options)),
        orders(options, len(timesteps)),
        partial(dpm_solver_singlestep, solver=solver),
    )
