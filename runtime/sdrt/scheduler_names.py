"""The names of schedulers: sdrt's short names, and those of A1111, ComfyUI and diffusers.

`canonical_name` reads any of them. This module imports no sampler, so that the command line and
requests can read names quickly.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from sdrt.errors import RequestError, SamplerError, nearest, quoted


@dataclass(frozen=True)
class Suffix:
    """The option that a suffix sets, and its name in A1111's web UI."""

    option: str
    value: Any
    a1111: str


SUFFIXES: Mapping[str, Suffix] = {  # "euler_karras" is euler with the sigmas of Karras et al.
    "_karras": Suffix("use_karras_sigmas", True, "Karras"),
    "_exponential": Suffix("use_exponential_sigmas", True, "Exponential"),
    "_beta": Suffix("use_beta_sigmas", True, "Beta"),
    "_trailing": Suffix("timestep_spacing", "trailing", "SGM Uniform"),  # there within a timestep
}
SIGMAS, _SPACING = ("_karras", "_exponential", "_beta"), ("_trailing",)


@dataclass(frozen=True)
class ShortName:
    """The scheduler and options of a short name, and their name in A1111's web UI, if any."""

    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict)
    a1111: str | None = None
    suffixes: tuple[str, ...] = (*SIGMAS, *_SPACING)  # whose options change the scheduler's steps


DPMPP_2 = {"algorithm_type": "dpmsolver++", "solver_order": 2, "solver_type": "midpoint"}
DPMPP_3 = {**DPMPP_2, "solver_order": 3}
SDE = {"algorithm_type": "sde-dpmsolver++"}

SHORT_NAMES: Mapping[str, ShortName] = {
    "ddim": ShortName("DDIMScheduler", a1111="DDIM", suffixes=_SPACING),
    "ddpm": ShortName("DDPMScheduler", a1111="DDPM", suffixes=_SPACING),
    "pndm": ShortName("PNDMScheduler", a1111="PLMS", suffixes=_SPACING),
    "lms": ShortName("LMSDiscreteScheduler", a1111="LMS"),
    "euler": ShortName("EulerDiscreteScheduler", a1111="Euler"),
    "euler_a": ShortName("EulerAncestralDiscreteScheduler", a1111="Euler a", suffixes=_SPACING),
    "heun": ShortName("HeunDiscreteScheduler", a1111="Heun"),
    "kdpm2": ShortName("KDPM2DiscreteScheduler", a1111="DPM2"),
    "kdpm2_a": ShortName("KDPM2AncestralDiscreteScheduler", a1111="DPM2 a"),
    "dpmpp_2m": ShortName("DPMSolverMultistepScheduler", DPMPP_2, "DPM++ 2M"),
    "dpmpp_2m_sde": ShortName("DPMSolverMultistepScheduler", DPMPP_2 | SDE, "DPM++ 2M SDE"),
    "dpmpp_3m": ShortName("DPMSolverMultistepScheduler", DPMPP_3),
    "dpmpp_3m_sde": ShortName("DPMSolverMultistepScheduler", DPMPP_3 | SDE, "DPM++ 3M SDE"),
    "dpmpp_2s": ShortName("DPMSolverSinglestepScheduler", DPMPP_2, suffixes=SIGMAS),
    "dpmpp_3s": ShortName("DPMSolverSinglestepScheduler", DPMPP_3, suffixes=SIGMAS),
    "unipc": ShortName("UniPCMultistepScheduler", a1111="UniPC"),
    "deis": ShortName("DEISMultistepScheduler", a1111="DEIS"),
    "lcm": ShortName("LCMScheduler", a1111="LCM", suffixes=()),
    "tcd": ShortName("TCDScheduler", a1111="TCD", suffixes=()),
    "flow_euler": ShortName("FlowMatchEulerDiscreteScheduler", suffixes=SIGMAS),
    "flow_heun": ShortName("FlowMatchHeunDiscreteScheduler", suffixes=()),
}
_ALIASES = {  # as written in ComfyUI, k-diffusion and older versions of sdrt
    "euler_ancestral": "euler_a",
    "k_euler": "euler",
    "k_euler_a": "euler_a",
    "k_euler_ancestral": "euler_a",
    "k_heun": "heun",
    "k_lms": "lms",
    "dpm_2": "kdpm2",
    "dpm_2_a": "kdpm2_a",
    "dpm_2_ancestral": "kdpm2_a",
    "kdpm2_ancestral": "kdpm2_a",
    "dpmpp_2m_sde_gpu": "dpmpp_2m_sde",
    "dpmpp_3m_sde_gpu": "dpmpp_3m_sde",
    "uni_pc_bh2": "unipc",  # diffusers' default
}

_SCHEDULES = {
    "": "",
    **{suffix: suffix for suffix in SUFFIXES},
    **{each.a1111: suffix for suffix, each in SUFFIXES.items()},
    "Uniform": "",
    "Normal": "",
}

# Samplers of other programs that sdrt does not have, and the nearest that it has.
_MISSING = {
    "DPM++ SDE": "dpmpp_2m_sde",
    "dpmpp_sde_gpu": "dpmpp_2m_sde",
    "DPMSolverSDEScheduler": "dpmpp_2m_sde",
    "DPM++ 2M SDE Heun": "dpmpp_2m_sde",
    "dpmpp_2m_sde_heun_gpu": "dpmpp_2m_sde",
    "DPM++ 2S a": "dpmpp_2s",
    "dpmpp_2s_ancestral": "dpmpp_2s",
    "DPM fast": "dpmpp_3s",
    "DPM adaptive": "dpmpp_3s",
    "Restart": "heun",
    "heunpp2": "heun",
    "res_multistep": "dpmpp_2m",
    "ipndm": "pndm",
    "ipndm_v": "pndm",
    "IPNDMScheduler": "pndm",
    "EDMEulerScheduler": "euler",
    "EDMDPMSolverMultistepScheduler": "dpmpp_2m",
    "DDIM CFG++": "ddim",
    "euler_cfg_pp": "euler",
    "euler_ancestral_cfg_pp": "euler_a",
    "dpmpp_2m_cfg_pp": "dpmpp_2m",
    "dpmpp_2s_ancestral_cfg_pp": "dpmpp_2s",
}
_MISSING_SCHEDULES = (
    *("Align Your Steps", "Align Your Steps 11", "Align Your Steps 32", "Align Your Steps GITS"),
    *("KL Optimal", "Polyexponential", "Simple", "DDIM", "DDIM Uniform"),
    *("Linear Quadratic", "Turbo"),
)


def canonical_name(name: object) -> str:
    """The short name, or the class name of diffusers, that `name` means in any spelling.

    "DPM++ 2M Karras", "dpmpp-2m karras" and "dpmpp_2m_karras" are "dpmpp_2m_karras". A class name
    stays as it is, because it keeps options that a short name sets. Raises `SamplerError` for an
    unknown name, `RequestError` for something that is not a name.
    """
    if not isinstance(name, str):
        raise RequestError(_refusal_of_object(name))
    found = find_name(name)
    if found is None:
        raise SamplerError(refusal_of(name))
    return found


def find_name(name: str) -> str | None:
    """Like `canonical_name`; None for a name that is unknown here."""
    return _names().get(_key(name))


def refusal_of(name: str) -> str:
    """The message for a name that is unknown here."""
    key, scheduler = _key(name), f"scheduler {quoted(name)}"
    if key in _nearest_by_key():
        sampler, nearest_name = _nearest_by_key()[key]
        return f"{scheduler}: sdrt does not have {sampler}: use the nearest, '{nearest_name}'"
    for schedule in _MISSING_SCHEDULES:
        stem = _names().get(key.removesuffix(_key(schedule)), "")
        if stem in SHORT_NAMES and key.endswith(_key(schedule)):
            variants = ", ".join(f"'{variant}'" for variant in variants_of(stem))
            return f"{scheduler}: sdrt does not have the schedule {schedule}: use {variants}"
    if near := _near(key):
        return f"{scheduler} is unknown: did you mean '{near}'?"
    return (
        f"{scheduler} is unknown: use one of {', '.join(SHORT_NAMES)}, "
        "or diffusers' class name of one of these"
    )


def split_suffix(name: str) -> tuple[str, str]:
    """A short name without the suffix that names its sigmas, and that suffix."""
    for suffix in SUFFIXES:
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix
    return name, ""


def variants_of(stem: str) -> tuple[str, ...]:
    """A short name, and the names with suffixes that its scheduler has."""
    return stem, *(stem + suffix for suffix in SHORT_NAMES[stem].suffixes)


def schedulers_help() -> str:
    """The schedulers' names, for the help of a command."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name, short in SHORT_NAMES.items():
        groups.setdefault(short.suffixes, []).append(name)
    listed = "; ".join(
        ", ".join(stems) + (f" (also with {' '.join(suffixes)})" if suffixes else "")
        for suffixes, stems in groups.items()
    )
    return (
        f"{listed}; or as A1111, ComfyUI and diffusers call them: "
        '"DPM++ 2M Karras", euler_ancestral, DDIMScheduler'
    )


def _refusal_of_object(given: object) -> str:
    """The message for something that is not a name, such as a scheduler of diffusers."""
    class_name = given.__name__ if isinstance(given, type) else type(given).__name__
    known = find_name(class_name)
    example = f"'{known}'" if known else "a name such as 'euler' or 'DDIMScheduler'"
    what = "the class" if isinstance(given, type) else "an object of class"
    return f"scheduler: got {what} {class_name}, expected a name: give {example}"


def _near(key: str) -> str | None:
    """The name nearest to a misspelt one. Class names are all similar, so they must be nearer."""
    variants = {variant for stem in SHORT_NAMES for variant in variants_of(stem)}
    for names, cutoff in ((variants, 0.75), (_classes(), 0.85)):
        by_key = {other: name for other, name in _names().items() if name in names}
        if close := nearest(key, by_key, cutoff):
            return by_key[close]
    return None


def _key(name: str) -> str:
    """The common form of all spellings: "DPM++ 2M" and "dpmpp_2m" are "dpmpp2m"."""
    return re.sub(r"[\W_]+", "", name.lower().replace("+", "p"))


def _with_schedules(stems: Mapping[str, str]) -> dict[str, str]:
    """Names by key, each alone and followed by the name of a schedule."""
    return {
        _key(spelling + schedule): stem + suffix
        for spelling, stem in stems.items()
        for schedule, suffix in _SCHEDULES.items()
    }


@cache  # only a request that names a scheduler needs the tables
def _names() -> Mapping[str, str]:
    """Every name by key; a short name has precedence over a class name without its ending."""
    a1111 = {name.a1111: stem for stem, name in SHORT_NAMES.items() if name.a1111}
    return {
        **{_key(name.removesuffix("Scheduler")): name for name in _classes()},
        **_with_schedules({stem: stem for stem in SHORT_NAMES} | a1111 | _ALIASES),
        **{_key(name): name for name in _classes()},
    }


def _classes() -> set[str]:
    return {short.scheduler for short in SHORT_NAMES.values()}


@cache
def _nearest_by_key() -> dict[str, tuple[str, str]]:
    """The contents of `_MISSING`, by key: a sampler's name, and the nearest with the same
    sigmas."""
    schedules = {**_SCHEDULES, **dict.fromkeys(_MISSING_SCHEDULES, "")}
    return {
        _key(sampler + schedule): (
            sampler,
            near + suffix if suffix in SHORT_NAMES[near].suffixes else near,
        )
        for sampler, near in _MISSING.items()
        for schedule, suffix in schedules.items()
    }
