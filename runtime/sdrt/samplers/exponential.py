"""The exponential integrator of DPM-Solver, DPM-Solver++ and UniPC.

In half the log SNR, `lambda = log(alpha / sigma)`, a step solves the linear part of the diffusion
equation exactly, and expands only the model's output (Lu et al. 2022, DPM-Solver, section 3).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np

from sdrt.samplers.options import Options
from sdrt.samplers.prediction import Level, limit_from_options
from sdrt_engines import Array

Algorithm: TypeAlias = Literal["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"]
Reading: TypeAlias = Callable[[Level, Array, Array], Array]
History: TypeAlias = list[tuple[Level, Array]]  # the model's outputs and their levels, newest first


def rise(s: Level, t: Level) -> float:
    """The rise of the papers' lambda from level s to t; infinite at sigma 0.

    In float32 as in diffusers: it shows in the latents of very short and very long steps.
    """
    return float(_lambda(t) - _lambda(s))


@dataclass(frozen=True, slots=True)
class Span:
    """From level s to level t: `x_t = decay * x_s + w0 * D0 + w1 * D1 + w2 * D2 + spread * z`.

    `D0` is the model's output at s, `D1` and `D2` its first and second derivative in lambda,
    times `h` and `h²`; `z` is fresh noise. `scale` and `k`
    belong to the integral that weights them, `scale * ∫ exp(k * s) ds` over 0..1.
    """

    h: float
    decay: float
    scale: float
    k: float
    spread: float = 0.0

    @property
    def w0(self) -> float:
        return -self.scale * math.expm1(self.k)

    @property
    def w1(self) -> float:
        return self.scale * (1 - _phi1(self.k))

    @property
    def w2(self) -> float:
        """The SDE formula of diffusers has -1/2 instead of the integral's +1/2, and so has this."""
        half = -0.5 if self.spread else 0.5
        return -self.scale * (_phi2(self.k) - half)


def span_between(algorithm: Algorithm, s: Level, t: Level) -> Span:
    """DPM-Solver's span from s to t in noise prediction, DPM-Solver++'s in data prediction.

    Lu et al. 2022, https://arxiv.org/abs/2206.00927 and https://arxiv.org/abs/2211.01095.
    """
    h = rise(s, t)
    if algorithm == "dpmsolver++":
        return Span(h, t.sigma / s.sigma, t.alpha, -h)
    if algorithm == "dpmsolver":
        return Span(h, t.alpha / s.alpha, t.sigma, h)
    if algorithm == "sde-dpmsolver++":
        spread = t.sigma * math.sqrt(-math.expm1(-2 * h))
        return Span(h, t.sigma / s.sigma * math.exp(-h), t.alpha, -2 * h, spread)
    spread = t.sigma * math.sqrt(math.expm1(2 * h))
    return Span(h, t.alpha / s.alpha, 2 * t.sigma, h, spread)


def reads_data(options: Options) -> Reading:
    """Reads the quantity that DPM-Solver++ integrates: the image that a prediction implies."""
    limit = limit_from_options(options)
    return _without_variance(options, lambda level, x, out: limit(level.x0(x, out)))


def reads_noise(options: Options) -> Reading:
    """Reads the quantity that DPM-Solver integrates: the noise that a prediction implies."""
    if options.thresholding:
        return reads_noise_of_data(options)
    return _without_variance(options, lambda level, x, out: level.eps(x, out))


def reads_noise_of_data(options: Options) -> Reading:
    """Reads the noise as the sample without its image, which rounds as diffusers does."""
    x0 = reads_data(options)
    return lambda level, x, out: (x - x0(level, x, out) * level.alpha) / level.sigma


def _without_variance(options: Options, read: Reading) -> Reading:
    """Models with a learned variance return it in the channels after the prediction."""
    if options.variance_type not in ("learned", "learned_range"):
        return read
    return lambda level, x, out: read(level, x, out[:, : x.shape[1]])


def remembered(history: History, level: Level, output: Array) -> History:
    """The history with one more output in front: three at most, and only the newest of a level.

    A thousand steps have some rounded timestep twice, without a derivative between the two.
    """
    older = (entry for entry in history if entry[0].sigma != level.sigma)
    return [(level, output), *older][:3]


def combine(*terms: tuple[float, Array]) -> Array:
    """The sum of weight times array, in float32."""
    (weight, array), *rest = terms
    total = array * weight
    for weight, array in rest:
        total += array * weight
    return total


def _lambda(level: Level) -> np.float32:
    """Half the log signal-to-noise ratio."""
    if not level.sigma:
        return np.float32(math.inf)
    return np.float32(math.log(level.alpha)) - np.float32(math.log(level.sigma))


def _phi1(k: float) -> float:
    """(exp(k) - 1) / k, the mean of exp(k * s) over s in 0..1."""
    return math.expm1(k) / k if k else 1.0


def _phi2(k: float) -> float:
    """(exp(k) - 1 - k) / k²"""
    return (_phi1(k) - 1) / k if k else 0.5
