"""Image and noise from a model's prediction (epsilon, v, sample, flow).

Every schedule mixes image and noise as `x = alpha * x0 + sigma * eps`. So x0 and eps are linear
in the sample and the prediction, and an adapter is two numbers per noise level, computed once per
schedule: a `Level` has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, TypeAlias

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers.options import Options, PredictionType
from sdrt_engines import Array

Limit: TypeAlias = Callable[[Array], Array]
Weights: TypeAlias = tuple[float, float]  # of the sample and of the prediction


@dataclass(frozen=True, slots=True)
class Level:
    """One noise level of a schedule: the samples there are `alpha * x0 + sigma * eps`.

    All numbers are Python floats, so that float32 arrays stay float32.
    """

    index: int  # into Schedule.timesteps
    t: float
    alpha: float
    sigma: float
    c_in: float  # the model's input is c_in * x
    x0_weights: Weights
    eps_weights: Weights

    def scale(self, x: Array) -> Array:
        """`x` as the model's input."""
        return x if self.c_in == 1.0 else x * self.c_in

    def x0(self, x: Array, prediction: Array) -> Array:
        """The image that the prediction implies for `x`."""
        return _mix(self.x0_weights, x, prediction)

    def prediction(self, x: Array, x0: Array) -> Array:
        """The prediction that implies this image for `x`; needs a sigma above 0."""
        a, b = self.x0_weights
        return _mix((-a / b, 1 / b), x, x0)

    def eps(self, x: Array, prediction: Array) -> Array:
        """The noise that the prediction implies for `x`."""
        return _mix(self.eps_weights, x, prediction)


class Interval(NamedTuple):
    """A step from one noise level to the next."""

    here: Level
    there: Level


def sigma_levels(
    timesteps: Array, sigmas: Array, prediction_type: PredictionType
) -> tuple[Level, ...]:
    """Levels with `x = x0 + sigma * eps`; the model's input is `x / sqrt(sigma² + 1)`."""
    return levels(
        timesteps, np.ones_like(sigmas), sigmas, prediction_type, 1 / np.sqrt(sigmas**2 + 1)
    )


def variance_preserving_levels(
    timesteps: Array, alphas_cumprod: Array, prediction_type: PredictionType
) -> tuple[Level, ...]:
    """Levels with `x = sqrt(a) * x0 + sqrt(1 - a) * eps`, `a` being alphas_cumprod there."""
    return levels(timesteps, np.sqrt(alphas_cumprod), np.sqrt(1 - alphas_cumprod), prediction_type)


def flow_levels(timesteps: Array, sigmas: Array) -> tuple[Level, ...]:
    """Levels with `x = (1 - sigma) * x0 + sigma * eps`; the model predicts `eps - x0`."""
    return levels(timesteps, 1 - sigmas, sigmas, "flow_prediction")


def levels(
    timesteps: Array,
    alphas: Array,
    sigmas: Array,
    prediction_type: PredictionType,
    c_in: Array | float = 1.0,
) -> tuple[Level, ...]:
    """One `Level` for each timestep, with `x = alpha * x0 + sigma * eps`.

    Raises `SamplerError` for epsilon prediction at a level of pure noise (zero terminal SNR).
    """
    if prediction_type == "epsilon" and not alphas.all():
        raise SamplerError(
            "prediction_type 'epsilon' does not determine the image at zero terminal SNR, which is "
            "pure noise: use timestep_spacing 'leading', or rescale_betas_zero_snr=false"
        )
    c_in = np.broadcast_to(np.asarray(c_in, np.float32), alphas.shape)
    columns = (column.tolist() for column in (timesteps, alphas, sigmas, c_in))
    weights = (_pairs(f(prediction_type, alphas, sigmas)) for f in (x0_weights, eps_weights))
    return tuple(Level(*row) for row in zip(range(len(alphas)), *columns, *weights, strict=True))


def intervals(levels: Sequence[Level]) -> tuple[Interval, ...]:
    """The n steps between n + 1 levels."""
    return tuple(Interval(*pair) for pair in pairwise(levels))


def x0_weights(prediction_type: PredictionType, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """`(a, b)` with `x0 = a * x + b * prediction`; v as in Salimans & Ho 2022."""
    one: Array = np.ones_like(sigma)
    variance: Array = alpha**2 + sigma**2
    with np.errstate(divide="ignore", invalid="ignore"):
        if prediction_type == "epsilon":
            return 1 / alpha, -sigma / alpha
        if prediction_type == "v_prediction":
            return alpha / variance, -sigma / np.sqrt(variance)
        if prediction_type == "flow_prediction":  # the velocity eps - x0, with alpha = 1 - sigma
            return one, -sigma
        return 0 * one, one


def eps_weights(prediction_type: PredictionType, alpha: Array, sigma: Array) -> tuple[Array, Array]:
    """`(a, b)` with `eps = a * x + b * prediction`; infinite for "sample" if sigma is 0."""
    one: Array = np.ones_like(sigma)
    variance: Array = alpha**2 + sigma**2
    with np.errstate(divide="ignore", invalid="ignore"):
        if prediction_type == "epsilon":
            return 0 * one, one
        if prediction_type == "v_prediction":
            return sigma / variance, alpha / np.sqrt(variance)
        if prediction_type == "flow_prediction":
            return one, alpha
        return 1 / sigma, -alpha / sigma


def limit_from_options(options: Options) -> Limit:
    """The limit on every x0: dynamic thresholding, clipping, or none."""
    if options.thresholding:
        return lambda x0: threshold(
            x0, options.dynamic_thresholding_ratio, options.sample_max_value
        )
    if options.clip_sample:
        bound = options.clip_sample_range
        return lambda x0: x0.clip(-bound, bound)
    return lambda x0: x0


def threshold(x0: Array, ratio: float, max_value: float) -> Array:
    """Dynamic thresholding (Saharia et al. 2022, section 2.3), by a quantile of each image."""
    bound = np.quantile(np.abs(x0).reshape(len(x0), -1), ratio, axis=1)
    bound = np.minimum(np.maximum(bound, 1), max_value).astype(x0.dtype)
    bound = bound.reshape(-1, *(1,) * (x0.ndim - 1))  # (B, 1, 1, 1)
    clipped: Array = x0.clip(-bound, bound) / bound
    return clipped


def _mix(weights: Weights, x: Array, prediction: Array) -> Array:
    """`a * x + b * prediction`, without computing a weight of 0 or 1."""
    a, b = weights
    if a == 0.0:
        return prediction if b == 1.0 else prediction * b
    mixed = prediction * b
    mixed += x if a == 1.0 else x * a
    return mixed


def _pairs(weights: tuple[Array, Array]) -> Sequence[Weights]:
    return list(zip(weights[0].tolist(), weights[1].tolist(), strict=True))
