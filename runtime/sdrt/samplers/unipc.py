"""UniPC: the predictor of DPM-Solver, and a corrector without further calls of the model."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers import tables
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
    solver_schedule,
    solver_sigmas,
)
from sdrt_engines import Array

OPTIONS = defaults(
    *TRAINING,
    *SPACING,
    *RESPACING,
    *THRESHOLDING,
    *FLOW,
    *LIMITS,
    "rescale_betas_zero_snr",
    "solver_order",
    "predict_x0",
    "lower_order_final",
    "disable_corrector",
    "solver_p",
    "final_sigmas_type",
    "shift_terminal",
    solver_type="bh2",
)


@dataclass(frozen=True)
class Solver:
    """The equation that is solved, and the choice of the paper's function B(h)."""

    algorithm: Algorithm
    bh2: bool
    read: Reading


def unipc(
    x: Array,
    steps: Sequence[SolverStep],
    noise: Noise,
    *,
    solver: Solver,
    uncorrected: frozenset[int],
) -> Sampler:
    """UniPC, Zhao et al. 2023 (https://arxiv.org/abs/2302.04867, algorithms 5 to 8):
    UniPCMultistepScheduler.
    """
    history: History = []
    x_last, order = x, 0
    for step in steps:
        prediction = yield Call(x, step.here.t)
        m = solver.read(step.here, x, prediction)
        if history and step.here.index - 1 not in uncorrected:
            x = update(solver, x_last, history[:order], step.here, m)
        history = remembered(history, step.here, m)
        order = min(step.order, len(history))
        x_last = x
        x = update(solver, x, history[:order], step.there)
        x = yield Update(x, step.here.index)
    return x


def update(solver: Solver, x: Array, history: History, t: Level, m_t: Array | None = None) -> Array:
    """`x` at level t from the history (newest first): UniP, or UniC when `m_t`, the model's
    output at t, is known.
    """
    (s0, m0), *older = history
    span = span_between(solver.algorithm, s0, t)
    terms = [(span.decay, x), (span.w0, m0)]
    if not span.h:  # a final step of no length (final_sigmas_type "sigma_min")
        older = []
    nodes = [(rise(s0, s) / span.h, m) for s, m in older]
    if m_t is not None:
        nodes.append((1.0, m_t))
    ratios = [ratio for ratio, _ in nodes]
    B = math.expm1(span.k) if solver.bh2 else span.k
    for (ratio, m), rho in zip(nodes, node_weights(ratios, span.k, B), strict=True):
        terms.append((-span.scale * B * rho / ratio, m - m0))
    return combine(*terms)


def node_weights(ratios: list[float], k: float, B: float) -> list[float]:
    """The paper's rho: weights of the differences at these `ratios` of the step, such that the
    formula is exact for polynomials.
    """
    if len(ratios) <= 1:
        return [0.5] * len(ratios)  # the limit for short steps, as in the paper and in diffusers
    phi, factorial, b = math.expm1(k) / k - 1, 1, []
    for i in range(2, len(ratios) + 2):
        b.append(phi * factorial / B)
        factorial *= i
        phi = phi / k - 1 / factorial
    R = np.vander(ratios, increasing=True).T
    weights: list[float] = np.linalg.solve(R, b).tolist()
    return weights


def solver_from_options(options: Options) -> Solver:
    """The solver of a configuration; a solver_type of another scheduler becomes the default.

    Raises `SamplerError` for combinations that have no formula.
    """
    bh2 = options.solver_type != "bh1"
    if options.predict_x0:
        return Solver("dpmsolver++", bh2, reads_data(options))
    for option, value, other in [
        ("final_sigmas_type", "zero", "'sigma_min'"),
        ("prediction_type", "flow_prediction", "predict_x0=true"),
    ]:
        if getattr(options, option) == value:
            raise SamplerError(
                f"{option} {value!r} cannot be combined with predict_x0=false: use {other}"
            )
    return Solver("dpmsolver", bh2, reads_noise(replace(options, thresholding=False)))


def orders(options: Options, n: int) -> list[int]:
    """The highest order of each of n steps: it falls at the end by default."""
    if options.lower_order_final:
        return [min(options.solver_order, n - i) for i in range(n)]
    if options.solver_order > 1 and options.final_sigmas_type == "zero":
        raise SamplerError(
            "lower_order_final=false cannot be combined with final_sigmas_type 'zero': "
            "use 'sigma_min'"
        )
    return [options.solver_order] * n


def shifted_flow_sigmas(options: Options, request: ScheduleRequest) -> tuple[Array, Array]:
    """Timesteps and flow sigmas from high to low, (n,) each, shifted as the options say."""
    total = options.num_train_timesteps
    if request.sigmas is not None:
        sigmas = tables.custom_flow_sigmas(request.sigmas)
    else:
        n = tables.check_num_steps(request.num_inference_steps, total)
        sigmas = np.linspace(1, 1 / total, n + 1)[:-1]
    if request.mu is not None:
        sigmas = tables.time_shifted_sigmas(options, request.mu, sigmas)
    else:
        sigmas = tables.shifted_sigmas(sigmas, options.flow_shift)
    if options.shift_terminal:
        sigmas = tables.stretched_to_terminal(sigmas, options.shift_terminal)
    if abs(sigmas[0] - 1) < 1e-6:
        sigmas[0] -= 1e-6  # at pure noise lambda would be infinite
    return sigmas * total, sigmas


def unipc_sigmas(options: Options, request: ScheduleRequest) -> tuple[Array, Array]:
    """Timesteps and sigmas from high to low, (n,) each; the final sigma is not among them.

    Raises `SamplerError` for options that go with flow sigmas only.
    """
    respaced = any(getattr(options, name) for name in RESPACING)
    if options.use_flow_sigmas and not respaced:
        return shifted_flow_sigmas(options, request)
    for name, value in [("shift_terminal", options.shift_terminal), ("sigmas", request.sigmas)]:
        if value is not None:
            raise SamplerError(f"{name} needs use_flow_sigmas=true, without Karras or other sigmas")
    timesteps, sigmas = solver_sigmas(options, request)
    if options.use_flow_sigmas and options.use_karras_sigmas:
        sigmas = sigmas / (sigmas + 1)
        timesteps = sigmas * options.num_train_timesteps
    return timesteps, sigmas


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of UniPCMultistepScheduler."""
    if options.use_dynamic_shifting != (request.mu is not None):
        raise SamplerError("use_dynamic_shifting=true and mu need each other: give both or neither")
    timesteps, sigmas = unipc_sigmas(options, request)
    respaced = options.use_flow_sigmas or any(getattr(options, name) for name in RESPACING)
    final = sigmas[-1] if respaced and options.final_sigmas_type == "sigma_min" else None
    return solver_schedule(
        options,
        timesteps,
        np.append(sigmas, final_sigma(options) if final is None else final),
        orders(options, len(timesteps)),
        partial(
            unipc,
            solver=solver_from_options(options),
            uncorrected=frozenset(options.disable_corrector),
        ),
    )
