"""DEIS: the noise prediction, extrapolated as a polynomial in log rho and integrated in rho."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import numpy as np

from sdrt.samplers import tables
from sdrt.samplers.exponential import (
    History,
    Reading,
    combine,
    reads_noise_of_data,
    remembered,
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
    solver_schedule,
    solver_sigmas,
    with_flow_shift,
)
from sdrt_engines import Array

OPTIONS = defaults(
    *TRAINING,
    *SPACING,
    *RESPACING,
    *THRESHOLDING,
    *FLOW,
    *LIMITS,
    "solver_order",
    "lower_order_final",
)


def deis(x: Array, steps: Sequence[SolverStep], noise: Noise, *, read: Reading) -> Sampler:
    """DEIS (log rho AB), Zhang & Chen 2022 (https://arxiv.org/abs/2204.13902, equations 14 and 15):
    DEISMultistepScheduler.
    """
    history: History = []
    for step in steps:
        prediction = yield Call(x, step.here.t)
        history = remembered(history, step.here, read(step.here, x, prediction))
        x = update(x, history[: step.order], step.there)
        x = yield Update(x, step.here.index)
    return x


def update(x: Array, history: History, t: Level) -> Array:
    """`x` at level t: `x / alpha` moves by the integral of eps over rho."""
    s, m = history[0]
    if len(history) == 1:
        span = span_between("dpmsolver", s, t)
        return combine((span.decay, x), (span.w0, m))
    weights = integral_weights(_rho(t), [_rho(level) for level, _ in history])
    terms = [(t.alpha * weight, m) for weight, (_, m) in zip(weights, history, strict=True)]
    return combine((t.alpha / s.alpha, x), *terms)


def integral_weights(rho_t: np.float32, rhos: Sequence[np.float32]) -> list[float]:
    """The weight of the output at each of `rhos` (newest first) in the integral from the newest
    rho to `rho_t`: that of its Lagrange polynomial in log rho.

    In float32 and in diffusers' order: so much cancels here that float64 gives other latents.
    """
    nodes = [np.log(rho) for rho in rhos]
    weights = []
    for i, node in enumerate(nodes):
        others = nodes[i + 1 :] + nodes[:i]
        norm = math.prod(node - other for other in others)
        integral = _antiderivative(rho_t, others) / norm - _antiderivative(rhos[0], others) / norm
        weights.append(float(integral))
    return weights


def _antiderivative(rho: np.float32, nodes: Sequence[np.float32]) -> np.float32:
    """The antiderivative of the product of (log rho - node) over one or two nodes, over rho."""
    u = np.log(rho)
    if len(nodes) == 1:
        return np.float32(rho * (-nodes[0] + u - 1))
    c, d = nodes
    return np.float32(rho * (c * (d - u + 1) - d * u + d + u**2 - 2 * u + 2))


def _rho(level: Level) -> np.float32:
    return np.float32(level.sigma) / np.float32(level.alpha)


def orders(options: Options, n: int) -> list[int]:
    """The highest order of each of n steps; lower in the last two of short runs."""
    highest = [options.solver_order] * n
    if options.lower_order_final and n < 15:
        highest[-2:] = [min(options.solver_order, 2), 1][-n:]
    return highest


def schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of DEISMultistepScheduler."""
    options = replace(options, flow_shift=with_flow_shift(options, request.mu))
    timesteps, sigmas = solver_sigmas(options, request)
    spaced = not (options.use_flow_sigmas or any(getattr(options, name) for name in RESPACING))
    final = tables.train_sigmas(options)[0] if spaced else sigmas[-1]
    return solver_schedule(
        options,
        timesteps,
        np.append(sigmas, final),
        orders(options, len(timesteps)),
        partial(deis, read=reads_noise_of_data(options)),
    )
