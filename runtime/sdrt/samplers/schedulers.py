"""Which schedulers there are: the one table in which a family is registered, and the short names.

To add a family: write its file (``OPTIONS`` with diffusers' defaults, ``plan(options, steps)``, the
coroutine) and add a line to each table.
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
from sdrt.samplers.plan import Plan, Steps


@dataclass(frozen=True)
class Family:
    """A scheduler class of diffusers: its options with their defaults, and how it plans."""

    options: Mapping[str, Any]
    plan: Callable[[Options, Steps], Plan]
    prediction_types: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    takes: tuple[str, ...] = ()  # of timesteps, sigmas, eta, mu


ALL_PREDICTIONS = ("epsilon", "v_prediction", "sample", "flow_prediction")

EPSILON_OR_V = ("epsilon", "v_prediction")

FAMILIES: Mapping[str, Family] = {
    "DDIMScheduler": Family(ddim.OPTIONS, ddim.plan, takes=("eta",)),
    "DDPMScheduler": Family(ddpm.OPTIONS, ddpm.plan, takes=("timesteps",)),
    "PNDMScheduler": Family(pndm.OPTIONS, pndm.plan, EPSILON_OR_V),
    "LMSDiscreteScheduler": Family(lms.OPTIONS, lms.plan),
    "EulerDiscreteScheduler": Family(euler.OPTIONS, euler.plan, takes=("timesteps", "sigmas")),
    "EulerAncestralDiscreteScheduler": Family(
        euler_ancestral.OPTIONS, euler_ancestral.plan, EPSILON_OR_V
    ),
    "HeunDiscreteScheduler": Family(heun.OPTIONS, heun.plan, takes=("timesteps",)),
    "KDPM2DiscreteScheduler": Family(kdpm2.OPTIONS, kdpm2.plan, EPSILON_OR_V),
    "KDPM2AncestralDiscreteScheduler": Family(kdpm2.OPTIONS, kdpm2.plan_ancestral, EPSILON_OR_V),
    "DPMSolverMultistepScheduler": Family(
        dpm_solver.OPTIONS, dpm_solver.plan, ALL_PREDICTIONS, takes=("timesteps", "mu")
    ),
    "DPMSolverSinglestepScheduler": Family(
        dpm_solver_singlestep.OPTIONS,
        dpm_solver_singlestep.plan,
        ALL_PREDICTIONS,
        takes=("timesteps", "mu"),
    ),
    "UniPCMultistepScheduler": Family(
        unipc.OPTIONS, unipc.plan, ALL_PREDICTIONS, takes=("sigmas", "mu")
    ),
    "DEISMultistepScheduler": Family(deis.OPTIONS, deis.plan, ALL_PREDICTIONS, takes=("mu",)),
    "LCMScheduler": Family(lcm.OPTIONS, lcm.plan_lcm, takes=("timesteps",)),
    "TCDScheduler": Family(lcm.OPTIONS, lcm.plan_tcd, takes=("timesteps", "eta")),
    "FlowMatchEulerDiscreteScheduler": Family(
        flow_match.EULER_OPTIONS, flow_match.plan_euler, takes=("timesteps", "sigmas", "mu")
    ),
    "FlowMatchHeunDiscreteScheduler": Family(flow_match.HEUN_OPTIONS, flow_match.plan_heun),
}


@dataclass(frozen=True)
class Name:
    """What a short name stands for."""

    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict)


DPMPP_2 = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
DPMPP_3 = {**DPMPP_2, "solver_order": 3}
SDE = {"algorithm_type": "sde-dpmsolver++"}

SHORT_NAMES: Mapping[str, Name] = {
    "ddim": Name("DDIMScheduler"),
    "ddpm": Name("DDPMScheduler"),
    "pndm": Name("PNDMScheduler"),
    "lms": Name("LMSDiscreteScheduler"),
    "euler": Name("EulerDiscreteScheduler"),
    "euler_a": Name("EulerAncestralDiscreteScheduler"),
    "euler_ancestral": Name("EulerAncestralDiscreteScheduler"),
    "heun": Name("HeunDiscreteScheduler"),
    "dpm2": Name("KDPM2DiscreteScheduler"),
    "kdpm2": Name("KDPM2DiscreteScheduler"),
    "dpm2_a": Name("KDPM2AncestralDiscreteScheduler"),
    "kdpm2_a": Name("KDPM2AncestralDiscreteScheduler"),
    "kdpm2_ancestral": Name("KDPM2AncestralDiscreteScheduler"),
    "dpmpp_2m": Name("DPMSolverMultistepScheduler", DPMPP_2),
    "dpmpp_2m_sde": Name("DPMSolverMultistepScheduler", {**DPMPP_2, **SDE}),
    "dpmpp_3m": Name("DPMSolverMultistepScheduler", DPMPP_3),
    "dpmpp_3m_sde": Name("DPMSolverMultistepScheduler", {**DPMPP_3, **SDE}),
    "dpmpp_2s": Name("DPMSolverSinglestepScheduler", DPMPP_2),
    "dpmpp_3s": Name("DPMSolverSinglestepScheduler", DPMPP_3),
    "unipc": Name("UniPCMultistepScheduler"),
    "deis": Name("DEISMultistepScheduler"),
    "lcm": Name("LCMScheduler"),
    "tcd": Name("TCDScheduler"),
    "flow_euler": Name("FlowMatchEulerDiscreteScheduler"),
    "flow_heun": Name("FlowMatchHeunDiscreteScheduler"),
}

SUFFIXES: Mapping[str, str] = {  # "euler_karras" is euler with Karras' sigmas
    "_karras": "use_karras_sigmas",
    "_exponential": "use_exponential_sigmas",
    "_beta": "use_beta_sigmas",
}
