"""The schedulers, by diffusers' class names.

To add one, write its file (`OPTIONS` with the defaults of diffusers, `schedule(options, request)`,
the coroutine), add a line here and one to `SHORT_NAMES` in `sdrt.scheduler_names`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from sdrt.samplers import (
    ddim,
    ddpm,
    deis,
    dpm_solver,
    dpm_solver_singlestep,
    euler,
    euler_ancestral,
    flow_match,
    heun,
    kdpm2,
    lcm,
    lms,
    pndm,
    unipc,
)
from sdrt.samplers.options import Options
from sdrt.samplers.schedule import Schedule, ScheduleRequest


@dataclass(frozen=True)
class Scheduler:
    """A scheduler class of diffusers: its options with their defaults, and its schedules."""

    options: Mapping[str, Any]
    schedule: Callable[[Options, ScheduleRequest], Schedule]
    prediction_types: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    takes: tuple[str, ...] = ()  # of timesteps, sigmas, eta, mu, strength


ALL_PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")

EPSILON_OR_V = ("epsilon", "v_prediction")

SCHEDULERS: Mapping[str, Scheduler] = {
    "DDIMScheduler": Scheduler(ddim.OPTIONS, ddim.schedule, takes=("eta",)),
    "DDPMScheduler": Scheduler(ddpm.OPTIONS, ddpm.schedule, takes=("timesteps",)),
    "PNDMScheduler": Scheduler(pndm.OPTIONS, pndm.schedule, EPSILON_OR_V),
    "LMSDiscreteScheduler": Scheduler(lms.OPTIONS, lms.schedule),
    "EulerDiscreteScheduler": Scheduler(
        euler.OPTIONS, euler.schedule, takes=("timesteps", "sigmas")
    ),
    "EulerAncestralDiscreteScheduler": Scheduler(
        euler_ancestral.OPTIONS, euler_ancestral.schedule, EPSILON_OR_V
    ),
    "HeunDiscreteScheduler": Scheduler(heun.OPTIONS, heun.schedule, takes=("timesteps",)),
    "KDPM2DiscreteScheduler": Scheduler(kdpm2.OPTIONS, kdpm2.schedule, EPSILON_OR_V),
    "KDPM2AncestralDiscreteScheduler": Scheduler(
        kdpm2.OPTIONS, kdpm2.ancestral_schedule, EPSILON_OR_V
    ),
    "DPMSolverMultistepScheduler": Scheduler(
        dpm_solver.OPTIONS, dpm_solver.schedule, ALL_PREDICTIONS, takes=("timesteps", "mu")
    ),
    "DPMSolverSinglestepScheduler": Scheduler(
        dpm_solver_singlestep.OPTIONS,
        dpm_solver_singlestep.schedule,
        ALL_PREDICTIONS,
        takes=("timesteps", "mu"),
    ),
    "UniPCMultistepScheduler": Scheduler(
        unipc.OPTIONS, unipc.schedule, ALL_PREDICTIONS, takes=("sigmas", "mu")
    ),
    "DEISMultistepScheduler": Scheduler(
        deis.OPTIONS, deis.schedule, ALL_PREDICTIONS, takes=("mu",)
    ),
    "LCMScheduler": Scheduler(lcm.OPTIONS, lcm.lcm_schedule, takes=("timesteps", "strength")),
    "TCDScheduler": Scheduler(lcm.OPTIONS, lcm.tcd_schedule, takes=("timesteps", "eta")),
    "FlowMatchEulerDiscreteScheduler": Scheduler(
        flow_match.EULER_OPTIONS, flow_match.euler_schedule, takes=("timesteps", "sigmas", "mu")
    ),
    "FlowMatchHeunDiscreteScheduler": Scheduler(flow_match.HEUN_OPTIONS, flow_match.heun_schedule),
}
