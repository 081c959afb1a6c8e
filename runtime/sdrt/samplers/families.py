"""Which schedulers there are: the one table in which a family is registered, and the short names.

To add a family: write its file (``OPTIONS`` with diffusers' defaults, ``plan(options, steps)``, the
coroutine) and add a line to each table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from sdrt.samplers import euler
from sdrt.samplers.options import Options
from sdrt.samplers.plan import Plan, Steps


@dataclass(frozen=True)
class Family:
    """A scheduler class of diffusers: the options that it takes with its defaults, and how it
    plans.
    """

    options: Mapping[str, Any]
    plan: Callable[[Options, Steps], Plan]
    prediction_types: tuple[str, ...] = ("epsilon", "v_prediction", "sample")
    takes: tuple[str, ...] = ()  # of timesteps, sigmas, eta, mu


FAMILIES: Mapping[str, Family] = {
    "EulerDiscreteScheduler": Family(euler.OPTIONS, euler.plan, takes=("timesteps", "sigmas")),
}


@dataclass(frozen=True)
class Name:
    """What a short name stands for."""

    scheduler: str
    options: Mapping[str, Any] = field(default_factory=dict)


SHORT_NAMES: Mapping[str, Name] = {
    "euler": Name("EulerDiscreteScheduler"),
}

SUFFIXES: Mapping[str, str] = {  # "euler_karras" is euler with Karras' sigmas
    "_karras": "use_karras_sigmas",
    "_exponential": "use_exponential_sigmas",
    "_beta": "use_beta_sigmas",
}
