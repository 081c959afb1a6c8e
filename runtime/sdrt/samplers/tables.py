"""Noise schedules as numbers: betas, sigmas, timesteps.

Each function gives bit for bit what diffusers computes with torch and numpy, in float32 or float64
as there: a timestep that rounds the other way gives another image.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers.numerics import beta_quantile, torch_cumprod, torch_linspace
from sdrt.samplers.options import Options
from sdrt.samplers.schedule import ScheduleRequest, require_descending
from sdrt_engines import Array

ALMOST_ZERO_SNR = (
    2.0**-24
)  # instead of 0 if sqrt(1 / alphas_cumprod) must be finite, as in diffusers


# Training


def betas_from_options(options: Options) -> Array:
    """The variance added at each training timestep, (T,), as diffusers' `betas`."""
    n, start, end = options.num_train_timesteps, options.beta_start, options.beta_end
    betas: Array
    if options.trained_betas is not None:
        betas = np.asarray(options.trained_betas, np.float32)
    elif options.beta_schedule == "linear":
        betas = torch_linspace(start, end, n)
    elif options.beta_schedule == "scaled_linear":
        betas = torch_linspace(start**0.5, end**0.5, n) ** 2
    elif options.beta_schedule == "sigmoid":  # GeoDiff
        betas = 1 / (1 + np.exp(-torch_linspace(-6, 6, n))) * (end - start) + start
    else:
        betas = _betas_from_alpha_bar(options.beta_schedule, n)
    if options.rescale_betas_zero_snr:
        betas = rescale_zero_terminal_snr(betas)
    return betas.astype(np.float32, copy=False)


def alphas_cumprod_from_options(options: Options, *, finite_sigmas: bool = False) -> Array:
    """The share of the image left at each training timestep, (T,): `alphas_cumprod`.

    `finite_sigmas` lifts the last one from zero to 2**-24 when the betas are rescaled to zero
    terminal SNR, as diffusers does wherever sigma = sqrt(1 / alphas_cumprod - 1) is needed.
    """
    alphas_cumprod = torch_cumprod(1 - betas_from_options(options))
    if finite_sigmas and options.rescale_betas_zero_snr:
        alphas_cumprod[-1] = ALMOST_ZERO_SNR
    return alphas_cumprod


def sigmas_from_alphas_cumprod(alphas_cumprod: Array) -> Array:
    """The ratio of noise to image, sigma / alpha, (T,), rising."""
    sigmas: Array = np.sqrt((1 - alphas_cumprod) / alphas_cumprod)
    return sigmas


def train_sigmas(options: Options) -> Array:
    """Sigma at each training timestep, (T,), rising; finite also with zero terminal SNR."""
    return sigmas_from_alphas_cumprod(alphas_cumprod_from_options(options, finite_sigmas=True))


def rescale_zero_terminal_snr(betas: Array) -> Array:
    """Algorithm 1 of Lin et al. 2023 (https://arxiv.org/abs/2305.08891)."""
    root = np.sqrt(torch_cumprod(1 - betas))
    first, last = root[0], root[-1]
    alphas_bar = ((root - last) * (first / (first - last))) ** 2
    alphas = np.concatenate([alphas_bar[:1], alphas_bar[1:] / alphas_bar[:-1]])
    rescaled: Array = 1 - alphas
    return rescaled


def _betas_from_alpha_bar(kind: str, n: int, max_beta: float = 0.999) -> Array:
    """Nichol & Dhariwal 2021 (cosine), and diffusers' other closed forms of alpha bar."""

    def alpha_bar(t: float) -> float:
        if kind == "squaredcos_cap_v2":
            return math.cos((t + 0.008) / 1.008 * math.pi / 2) ** 2
        if kind == "exp":
            return math.exp(t * -12.0)
        log_snr = -0.5 * math.copysign(1, 0.5 - t) * math.log(1 - 2 * math.fabs(0.5 - t) + 1e-6)
        snr = math.exp(log_snr)  # laplace
        return math.sqrt(snr / (1 + snr))

    betas = [min(1 - alpha_bar((i + 1) / n) / alpha_bar(i / n), max_beta) for i in range(n)]
    return np.asarray(betas, np.float32)


# Inference


def spaced_timesteps(options: Options, n: int) -> Array:
    """`n` timesteps from high to low over the training range (Lin et al. 2023, table 2).

    `linspace` gives fractions: DDIM, DDPM and PNDM round them, the others interpolate sigmas.
    """
    total = options.num_train_timesteps
    if options.timestep_spacing == "linspace":
        return np.linspace(0, total - 1, n)[::-1]
    if options.timestep_spacing == "leading":
        return (np.arange(n) * (total // n))[::-1].astype(np.float64) + options.steps_offset
    return np.arange(total, 0, -total / n).round() - 1


def diffusion_timesteps(options: Options, request: ScheduleRequest) -> Array:
    """Whole timesteps as DDIM, DDPM and PNDM space them, or those requested."""
    total = options.num_train_timesteps
    if request.timesteps is not None:
        return whole_timesteps(request.timesteps, total)
    n = check_num_steps(request.num_inference_steps, total)
    timesteps = spaced_timesteps(options, n).round().astype(np.int64)
    if timesteps[0] >= total:
        raise SamplerError(
            f"steps_offset: {options.steps_offset} moves the first of {n} timesteps to "
            f"{timesteps[0]}, expected it below {total}: take fewer steps"
        )
    return timesteps


def stride(options: Options, request: ScheduleRequest) -> int:
    """The step of DDIM and PNDM in timesteps, for any spacing."""
    assert request.num_inference_steps is not None
    return options.num_train_timesteps // request.num_inference_steps


def at_or(values: Array, indices: Array, beyond: np.float32) -> Array:
    """`values[indices]`, and `beyond` for negative indices."""
    return np.where(indices >= 0, values[indices.clip(0)], beyond)


def interpolated_timesteps(options: Options, n: int) -> Array:
    """`spaced_timesteps` in float32, as Euler, Heun, LMS and KDPM2 use them."""
    return spaced_timesteps(options, n).astype(np.float32)


def solver_timesteps(options: Options, n: int, last_timestep: int | None = None) -> Array:
    """`n` timesteps as the multistep solvers space them: `n + 1` points without the lowest.

    `last_timestep` (exclusive) is below `num_train_timesteps` if `lambda_min_clipped` cuts
    off the noisiest.
    """
    total = options.num_train_timesteps
    last = total if last_timestep is None else last_timestep
    spaced: Array
    if options.timestep_spacing == "linspace":
        spaced = np.linspace(0, last - 1, n + 1).round()[:0:-1]
    elif options.timestep_spacing == "leading":
        spaced = (np.arange(n + 1) * (last // (n + 1)))[:0:-1] + options.steps_offset
    else:
        spaced = np.arange(last, 0, -total / n).round() - 1
    return spaced.astype(np.int64)


def respaced_sigmas(options: Options, sigma_max: float, sigma_min: float, n: int) -> Array | None:
    """Karras, exponential or beta sigmas from high to low, (n,), or None if no option sets them.

    `sigma_max` and `sigma_min` of the options take precedence.
    """
    high = options.sigma_max if options.sigma_max is not None else float(sigma_max)
    low = options.sigma_min if options.sigma_min is not None else float(sigma_min)
    if options.use_karras_sigmas:
        return karras_sigmas(high, low, n)
    if options.use_exponential_sigmas:
        return np.exp(np.linspace(math.log(high), math.log(low), n))
    if options.use_beta_sigmas:
        return low + beta_quantile(1 - np.linspace(0, 1, n)) * (high - low)
    return None


def karras_sigmas(sigma_max: float, sigma_min: float, n: int, rho: float = 7.0) -> Array:
    """Equation 5 of Karras et al. 2022 (https://arxiv.org/abs/2206.00364)."""
    ramp = np.linspace(0, 1, n)
    low, high = sigma_min ** (1 / rho), sigma_max ** (1 / rho)
    sigmas: Array = (high + ramp * (low - high)) ** rho
    return sigmas


def lu_sigmas(sigma_max: float, sigma_min: float, n: int) -> Array:
    """Steps of equal log SNR (Lu et al. 2022, DPM-Solver): `use_lu_lambdas`."""
    ramp = np.linspace(0, 1, n)
    low, high = math.log(sigma_min), math.log(sigma_max)
    return np.exp(high + ramp * (low - high))


def flow_sigmas(options: Options, n: int) -> Array:
    """The solvers' shifted flow-matching sigmas (`use_flow_sigmas`), (n,)."""
    sigmas = 1.0 - np.linspace(1, 1 / options.num_train_timesteps, n + 1)
    return shifted_sigmas(sigmas, options.flow_shift)[:0:-1].copy()


def shifted_sigmas(sigmas: Array, shift: float) -> Array:
    """Equation 23 of Esser et al. 2024 (Stable Diffusion 3): more steps at high noise."""
    shifted: Array = shift * sigmas / (1 + (shift - 1) * sigmas)
    return shifted


def time_shifted_sigmas(options: Options, mu: float, sigmas: Array) -> Array:
    """The shift of `use_dynamic_shifting`, with `mu` from the image's size (Flux)."""
    scale = math.exp(mu) if options.time_shift_type == "exponential" else mu
    shifted: Array = scale / (scale + (1 / sigmas - 1))
    return shifted


def stretched_to_terminal(sigmas: Array, shift_terminal: float) -> Array:
    """Sigmas stretched so that the last one is `shift_terminal` (LTX-Video)."""
    rest = 1 - sigmas
    stretched: Array = 1 - rest / (rest[-1] / (1 - shift_terminal))
    return stretched


def interpolated_sigmas(timesteps: Array, sigmas: Array) -> Array:
    """Sigma at fractional timesteps: linear between the training sigmas."""
    return np.interp(timesteps, np.arange(len(sigmas)), sigmas)


def timesteps_from_sigmas(sigmas: Array, all_sigmas: Array) -> Array:
    """Fractional timesteps at which the training sigmas reach `sigmas`.

    Linear in log sigma, held at the ends: diffusers' `_sigma_to_t`.
    """
    log_all = np.log(all_sigmas)
    log_sigma = np.log(np.maximum(sigmas, 1e-10))
    low = np.searchsorted(log_all, log_sigma, side="right") - 1
    low = low.clip(0, len(log_all) - 2)
    low_log, high_log = log_all[low], log_all[low + 1]
    w = ((low_log - log_sigma) / (low_log - high_log)).clip(0, 1)
    timesteps: Array = (1 - w) * low + w * (low + 1)
    return timesteps


def log_linear_sigmas(all_sigmas: Array, n: int) -> Array:
    """`n` sigmas of equal ratio from high to low (`interpolation_type="log_linear"`)."""
    return np.exp(torch_linspace(float(np.log(all_sigmas[-1])), float(np.log(all_sigmas[0])), n))


def check_num_steps(num_inference_steps: int | None, limit: int) -> int:
    """The number of steps; raises `SamplerError` unless it is from 1 to `limit`."""
    if num_inference_steps is None or not 1 <= num_inference_steps <= limit:
        raise SamplerError(f"num_inference_steps: got {num_inference_steps}, expected 1 to {limit}")
    return num_inference_steps


def custom_timesteps(timesteps: Sequence[float], limit: int) -> Array:
    """The requested timesteps; raises `SamplerError` unless they start between 0 and `limit`."""
    require_descending("timesteps", timesteps)
    first = timesteps[0]
    if not 0 < first <= limit - 1:
        raise SamplerError(
            f"timesteps: got {first:g} as the first, expected it above 0 and {limit - 1} at most: "
            "the model was trained for these"
        )
    return np.asarray(timesteps, np.float64)


def whole_timesteps(timesteps: Sequence[float], limit: int) -> Array:
    """The same for a scheduler without fractions; raises `SamplerError` for one."""
    for timestep in timesteps:
        if timestep != int(timestep):
            raise SamplerError(
                f"timesteps: got {timestep:g}, expected whole numbers for this scheduler: round "
                "it, or take euler"
            )
    return custom_timesteps(timesteps, limit).astype(np.int64)


def custom_flow_sigmas(sigmas: Sequence[float], name: str = "sigmas", unit: float = 1) -> Array:
    """The requested share of noise at each level; raises `SamplerError` unless it is above 0 and 1
    at most. `unit` is what `name` calls pure noise.
    """
    require_descending(name, sigmas)
    if not 0 < sigmas[-1] <= sigmas[0] <= unit:
        raise SamplerError(
            f"{name}: got {sigmas[0]:g} to {sigmas[-1]:g}, expected values above 0, and {unit:g} "
            "at most: the end is added"
        )
    return np.asarray(sigmas, np.float64) / unit
