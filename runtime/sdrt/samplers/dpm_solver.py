"""DPM-Solver and DPM-Solver++, multistep: each step uses earlier outputs of the model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers.exponential import (
    Algorithm,
    History,
    Reading,
    combine,
    reads_data,
    reads_noise,
    remembered,
    rise,
    span_between,
)
from sdrt.samplers.options import (
    FLOW,
    LIMITS,
    RESPACING,
    SPACING,
    THRESHOLDING,
    TRAINING,
    Options,
    defaults,
)
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

SOLVER = (
    "solver_order",
    "algorithm_type",
    "solver_type",
    "variance_type",
    "lambda_min_clipped",
    "lower_order_final",
    "final_sigmas_type",
)
OPTIONS = defaults(
    *TRAINING,
    *SPACING,
    *RESPACING,
    *THRESHOLDING,
    *SOLVER,
    *FLOW,
    *LIMITS,
    "use_lu_lambdas",
    "euler_at_final",
    "rescale_betas_zero_snr",
)


@dataclass(frozen=True)
class Solver:
    """The equation and the solver; `read` returns the integrated quantity, noise or data."""

    algorithm: Algorithm
    kind: Literal["midpoint", "heun"]
    read: Reading

    @property
    def stochastic(self) -> bool:
        return self.algorithm.startswith("sde")


def dpm_solver(x: Array, steps: Sequence[SolverStep], noise: Noise, *, solver: Solver) -> Sampler:
    """DPM-Solver++(1M to 3M), Lu et al. 2022 (https://arxiv.org/abs/2211.01095, algorithm 2), its
    SDE, and both for DPM-Solver: DPMSolverMultistepScheduler.
    """
    history: History = []
    for step in steps:
        prediction = yield Call(x, step.here.t)
        history = remembered(history, step.here, solver.read(step.here, x, prediction))
        z = noise() if solver.stochastic else None
        x = multistep_update(solver, x, history[: step.order], step.there, z)
        x = yield Update(x, step.here.index)
    return x


def multistep_update(
    solver: Solver, x: Array, history: History, t: Level, z: Array | None
) -> Array:
    """`x` at level t, by the formula whose order is the length of the history."""
    (s0, m0), *older = history
    span = span_between(solver.algorithm, s0, t)
    terms = [(span.decay, x), (span.w0, m0)]
    if older:
        s1, m1 = older[0]
        h0 = rise(s1, s0)
        D1 = (m0 - m1) * (span.h / h0)
    if len(older) == 1:
        terms.append((span.w1 if solver.kind == "heun" else span.w0 / 2, D1))
    elif len(older) == 2:
        s2, m2 = older[1]
        h1 = rise(s2, s1)
        change = D1 - (m1 - m2) * (span.h / h1)
        terms.append((span.w1, D1 + change * (h0 / (h0 + h1))))
        terms.append((span.w2, change * (span.h / (h0 + h1))))
    if z is not None:
        terms.append((span.spread, z))
    return combine(*terms)


def solver_from_options(options: Options) -> Solver:
    """The solver of a configuration; options left over from another scheduler become the default.

    Raises `SamplerError` for combinations that have no formula.
    """
    algorithm: Algorithm = "dpmsolver++"
    if options.algorithm_type != "deis":
        algorithm = options.algorithm_type
    if algorithm.endswith("++"):
        return Solver(algorithm, kind_of(options), reads_data(options))
    for option, value, other in [
        ("final_sigmas_type", "zero", "'sigma_min'"),
        ("prediction_type", "flow_prediction", "algorithm_type 'dpmsolver++'"),
    ]:
        if getattr(options, option) == value:
            raise SamplerError(
                f"{option} {value!r} cannot be combined with "
                f"algorithm_type {algorithm!r}: use {other}"
            )
    return Solver(algorithm, kind_of(options), reads_noise(options))


def kind_of(options: Options) -> Literal["midpoint", "heun"]:
    return "heun" if options.solver_type == "heun" else "midpoint"


def orders(options: Options, n: int) -> list[int]:
    """The highest order of each of n steps; lower in the last two of short runs."""
    short = options.lower_order_final and n < 15
    highest = [options.solver_order] * n
    if short and n > 1:
        highest[-2] = min(options.solver_order, 2)
    if short or options.euler_at_final or options.final_sigmas_type == "zero":
        highest[-1] = 1
    return highest


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of DPMSolverMultistepScheduler."""
    solver = solver_from_options(options)
    if solver.algorithm == "sde-dpmsolver" and options.solver_order == 3:
        raise SamplerError("algorithm_type 'sde-dpmsolver' has no solver_order 3: use 2")
    options = replace(options, flow_shift=with_flow_shift(options, request.mu))
    timesteps, sigmas = solver_sigmas(
        options,
        request,
        last_timestep=last_timestep(options),
        whole=options.beta_schedule != "squaredcos_cap_v2",
    )
    return solver_schedule(
        options,
        timesteps,
        np.append(sigmas, final_sigma(options)),
        orders(options, len(timesteps)),
        partial(dpm_solver, solver=solver),
    )
