"""Flow matching: Euler's and Heun's method on the straight line from noise to image."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sdrt.errors import SamplerError
from sdrt.samplers import tables
from sdrt.samplers.heun import twice_but_first
from sdrt.samplers.options import LIMITS, RESPACING, Options, defaults
from sdrt.samplers.prediction import Interval, flow_levels, intervals
from sdrt.samplers.protocol import Call, Noise, Sampler, Update
from sdrt.samplers.schedule import Schedule, ScheduleRequest
from sdrt_engines import Array

HEUN_OPTIONS = defaults("num_train_timesteps", "shift")
EULER_OPTIONS = defaults(
    *HEUN_OPTIONS,
    *RESPACING,
    *LIMITS,
    "use_dynamic_shifting",
    "base_shift",
    "max_shift",
    "base_image_seq_len",
    "max_image_seq_len",
    "invert_sigmas",
    "shift_terminal",
    "time_shift_type",
    "stochastic_sampling",
)


def flow_euler(x: Array, steps: Sequence[Interval], noise: Noise) -> Sampler:
    """Euler on the straight line from noise to image: FlowMatchEulerDiscreteScheduler.

    Section 2 of Esser et al. 2024, https://arxiv.org/abs/2403.03206. The prediction is the
    velocity, noise minus image.
    """
    for here, there in steps:
        velocity = yield Call(here.scale(x), here.t)
        x = yield Update(x + velocity * (there.sigma - here.sigma), here.index)
    return x


def flow_stochastic(x: Array, steps: Sequence[Interval], noise: Noise) -> Sampler:
    """The same with `stochastic_sampling`: jump to the image, then add fresh noise."""
    for here, there in steps:
        velocity = yield Call(here.scale(x), here.t)
        x0 = here.x0(x, velocity)
        x = yield Update(there.alpha * x0 + there.sigma * noise(), here.index)
    return x


def flow_heun(x: Array, steps: Sequence[Interval], noise: Noise) -> Sampler:
    """Heun's method (Karras et al. 2022, algorithm 1) on it: FlowMatchHeunDiscreteScheduler."""
    for here, there in steps:
        dt = there.sigma - here.sigma
        velocity = yield Call(here.scale(x), here.t)
        x_euler = yield Update(x + velocity * dt, here.index)
        if there.sigma == 0:
            return x_euler
        velocity_there = yield Call(there.scale(x_euler), there.t)
        x = yield Update(x + (velocity + velocity_there) * (dt / 2), there.index)
    return x


def euler_schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of FlowMatchEulerDiscreteScheduler."""
    if options.use_dynamic_shifting and request.mu is None:
        raise SamplerError("use_dynamic_shifting needs mu, the shift for this size")
    sigmas = _asked_sigmas(options, request)
    if options.use_dynamic_shifting and request.mu is not None:
        sigmas = tables.time_shifted_sigmas(options, request.mu, sigmas)
    else:
        sigmas = tables.shifted_sigmas(sigmas, options.shift)
    if options.shift_terminal:
        sigmas = tables.stretched_to_terminal(sigmas, options.shift_terminal)
    respaced = tables.respaced_sigmas(options, sigmas[0], sigmas[-1], len(sigmas))
    sigmas = (sigmas if respaced is None else respaced).astype(np.float32)
    if options.invert_sigmas:
        sigmas = 1 - sigmas
    timesteps = sigmas * np.float32(options.num_train_timesteps)
    if request.timesteps is not None and not options.invert_sigmas:
        timesteps = np.asarray(request.timesteps, np.float32)
    sigmas = np.append(sigmas, np.float32(options.invert_sigmas))
    levels = flow_levels(np.append(timesteps, 0), sigmas)
    return Schedule(
        timesteps=timesteps,
        sigmas=sigmas,
        init_noise_sigma=1.0,
        calls=levels[:-1],
        steps=intervals(levels),
        sampler=flow_stochastic if options.stochastic_sampling else flow_euler,
    )


def heun_schedule(options: Options, request: ScheduleRequest) -> Schedule:
    """The schedule of FlowMatchHeunDiscreteScheduler."""
    sigmas = tables.shifted_sigmas(_asked_sigmas(options, request), options.shift).astype(
        np.float32
    )
    timesteps = twice_but_first(sigmas * np.float32(options.num_train_timesteps))
    sigmas = np.append(twice_but_first(sigmas), np.float32(0))
    levels = flow_levels(np.append(timesteps, 0), sigmas)
    return Schedule(
        timesteps=timesteps,
        sigmas=sigmas,
        init_noise_sigma=1.0,
        calls=levels[:-1],
        steps=tuple(map(Interval, levels[::2], levels[1::2])),
        sampler=flow_heun,
        calls_per_step=2,
    )


def _asked_sigmas(options: Options, request: ScheduleRequest) -> Array:
    """The sigmas before the shift. Their lower end is already shifted, as in diffusers."""
    total = options.num_train_timesteps
    if request.sigmas is not None:
        return tables.custom_flow_sigmas(request.sigmas).astype(np.float32)
    if request.timesteps is not None:
        tables.custom_flow_sigmas(request.timesteps, "timesteps", total)
        return np.asarray(request.timesteps, np.float32) / total
    n = tables.check_num_steps(request.num_inference_steps, total)
    ends = np.asarray([total, 1], np.float32) / np.float32(total)
    if not options.use_dynamic_shifting:
        ends = tables.shifted_sigmas(ends, options.shift)
    sigma_max, sigma_min = ends.tolist()
    return np.linspace(sigma_max * total, sigma_min * total, n) / total
