"""Functions of torch and scipy that schedules need, bit for bit if possible."""

from __future__ import annotations

import math

import numpy as np

from sdrt_engines import Array


def torch_linspace(start: float, end: float, n: int) -> Array:
    """`torch.linspace(start, end, n)` in float32.

    The first half counts from the start, the second from the end.
    torch rounds once (a fused multiply-add), so start and step, in float32, are combined in
    float64.
    """
    if n == 1:
        return np.asarray([start], np.float32)
    first, last = np.float32(start), np.float32(end)
    step = float((last - first) / np.float32(n - 1))
    i = np.arange(n)
    line = np.where(i < n // 2, float(first) + step * i, float(last) - step * (n - 1 - i))
    return line.astype(np.float32)


def torch_cumprod(values: Array) -> Array:
    """`torch.cumprod` on the CPU: accumulates in float64, gives float32."""
    return np.cumprod(values, dtype=np.float64).astype(np.float32)


def beta_quantile(p: Array, a: float = 0.6) -> Array:
    """Quantiles of the symmetric beta distribution B(a, a), to float64's precision.

    "Beta Sampling is All You Need" (Lee et al. 2024, https://arxiv.org/abs/2407.12173) spaces
    sigmas by them. The distribution's function is a power series that at least halves with every
    term up to the median; Newton's method inverts it there, and symmetry gives the rest.
    """
    below = np.minimum(p, 1 - p)
    log_norm = 2 * math.lgamma(a) - math.lgamma(2 * a)
    powers = np.arange(60.0)
    rising = np.cumprod(np.concatenate([[1.0], (powers[:-1] + 1 - a) / (powers[:-1] + 1)]))
    series = rising / (a + powers)
    x = (below * a * math.exp(log_norm)) ** (1 / a)
    inside = below > 0
    for _ in range(20):
        y = x[inside]
        value = y**a * np.polynomial.polynomial.polyval(y, series) * math.exp(-log_norm)
        slope = (y * (1 - y)) ** (a - 1) * math.exp(-log_norm)
        x[inside] = np.clip(y - (value - below[inside]) / slope, y / 2, 0.5)
    quantiles: Array = np.where(p <= 0.5, x, 1 - x)
    return quantiles
