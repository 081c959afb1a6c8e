"""Sigmas at evenly spaced timesteps, for Euler, Heun, LMS and KDPM2."""

from __future__ import annotations

from sdrt.errors import SamplerError
from sdrt.samplers import tables
from sdrt.samplers.options import RESPACING, Options
from sdrt.samplers.schedule import ScheduleRequest
from sdrt_engines import Array


def spaced_sigmas(
    options: Options, request: ScheduleRequest, all_sigmas: Array
) -> tuple[Array, Array]:
    """Timesteps and sigmas from high to low, (n,) each; the final sigma is not among them."""
    if request.timesteps is not None:
        respaced = [name for name in RESPACING if getattr(options, name)]
        if respaced:
            raise SamplerError(
                f"timesteps cannot be given together with {respaced[0]}: give one of them"
            )
        timesteps = tables.custom_timesteps(request.timesteps, options.num_train_timesteps)
    else:
        n = tables.check_num_steps(request.num_inference_steps, options.num_train_timesteps)
        timesteps = tables.interpolated_timesteps(options, n)
    sigmas = tables.interpolated_sigmas(timesteps, all_sigmas)
    if options.interpolation_type == "log_linear":
        sigmas = tables.log_linear_sigmas(all_sigmas, len(timesteps) + 1)
    respaced_sigmas = tables.respaced_sigmas(options, sigmas[0], sigmas[-1], len(timesteps))
    if respaced_sigmas is None:
        return timesteps, sigmas
    return tables.timesteps_from_sigmas(respaced_sigmas, all_sigmas), respaced_sigmas


def init_noise_sigma(options: Options, sigmas: Array) -> float:
    """The spread of the first latents; `leading` spacing adds the variance of the image."""
    sigma_max = sigmas.max()
    return float(sigma_max if options.timestep_spacing != "leading" else (sigma_max**2 + 1) ** 0.5)
