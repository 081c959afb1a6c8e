"""The schedulers, and the short names that people give them.

To add one, write its file (`OPTIONS` with the defaults of diffusers, `schedule(options, request)`,
the coroutine) and add a line to each table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
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
    takes: tuple[str, ...] = ()  # of timesteps, sigmas, eta, mu


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
    "LCMScheduler": Scheduler(lcm.OPTIONS, lcm.lcm_schedule, takes=("timesteps",)),
    "TCDScheduler": Scheduler(lcm.OPTIONS, lcm.tcd_schedule, takes=("timesteps", "eta")),
    "FlowMatchEulerDiscreteScheduler": Scheduler(
        flow_match.EULER_OPTIONS, flow_match.euler_schedule, takes=("timesteps", "sigmas", "mu")
    ),
    "FlowMatchHeunDiscreteScheduler": Scheduler(flow_match.HEUN_OPTIONS, flow_match.heun_schedule),
}


@dataclass(frozen=True)
class ShortName:
    """The scheduler and options of a short name, and their name in A1111's web UI, if any."""

    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    a1111: str | None = None


@dataclass(frozen=True)
class Sigmas:
    """The option that a suffix sets, and its name in A1111's web UI."""

    option: str
    a1111: str


DPMPP_2 = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
DPMPP_3 = {**DPMPP_2, "solver_order": 3}
SDE = {"algorithm_type": "sde-dpmsolver++"}

_NAMES: Mapping[str, ShortName] = {
    "ddim": ShortName("DDIMScheduler", a1111="DDIM"),
    "ddpm": ShortName("DDPMScheduler", a1111="DDPM"),
    "pndm": ShortName("PNDMScheduler", a1111="PLMS"),
    "lms": ShortName("LMSDiscreteScheduler", a1111="LMS"),
    "euler": ShortName("EulerDiscreteScheduler", a1111="Euler"),
    "euler_a": ShortName("EulerAncestralDiscreteScheduler", a1111="Euler a"),
    "heun": ShortName("HeunDiscreteScheduler", a1111="Heun"),
    "kdpm2": ShortName("KDPM2DiscreteScheduler", a1111="DPM2"),
    "kdpm2_a": ShortName("KDPM2AncestralDiscreteScheduler", a1111="DPM2 a"),
    "dpmpp_2m": ShortName("DPMSolverMultistepScheduler", DPMPP_2, "DPM++ 2M"),
    "dpmpp_2m_sde": ShortName("DPMSolverMultistepScheduler", DPMPP_2 | SDE, "DPM++ 2M SDE"),
    "dpmpp_3m": ShortName("DPMSolverMultistepScheduler", DPMPP_3),
    "dpmpp_3m_sde": ShortName("DPMSolverMultistepScheduler", DPMPP_3 | SDE, "DPM++ 3M SDE"),
    "dpmpp_2s": ShortName("DPMSolverSinglestepScheduler", DPMPP_2),
    "dpmpp_3s": ShortName("DPMSolverSinglestepScheduler", DPMPP_3),
    "unipc": ShortName("UniPCMultistepScheduler", a1111="UniPC"),
    "deis": ShortName("DEISMultistepScheduler", a1111="DEIS"),
    "lcm": ShortName("LCMScheduler", a1111="LCM"),
    "tcd": ShortName("TCDScheduler", a1111="TCD"),
    "flow_euler": ShortName("FlowMatchEulerDiscreteScheduler"),
    "flow_heun": ShortName("FlowMatchHeunDiscreteScheduler"),
}
_ALIASES = {
    "euler_ancestral": "euler_a",
    "dpm2": "kdpm2",
    "dpm2_a": "kdpm2_a",
    "kdpm2_ancestral": "kdpm2_a",
}
SHORT_NAMES: Mapping[str, ShortName] = {
    **_NAMES,
    **{alias: _NAMES[name] for alias, name in _ALIASES.items()},
}

SUFFIXES: Mapping[str, Sigmas] = {  # "euler_karras" is euler with the sigmas of Karras et al.
    "_karras": Sigmas("use_karras_sigmas", "Karras"),
    "_exponential": Sigmas("use_exponential_sigmas", "Exponential"),
    "_beta": Sigmas("use_beta_sigmas", "Beta"),
}
