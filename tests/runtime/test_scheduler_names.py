"""Every spelling of a scheduler's name, and messages about names that sdrt does not have."""

from __future__ import annotations

import re

import pytest

from sdrt.errors import RequestError, SamplerError
from sdrt.samplers.schedulers import SCHEDULERS
from sdrt.scheduler_names import (
    SHORT_NAMES,
    SUFFIXES,
    canonical_name,
    schedulers_help,
    variants_of,
)


@pytest.mark.parametrize(
    ("name", "canonical"),
    [
        ("DPM++ 2M Karras", "dpmpp_2m_karras"),
        ("dpm++ 2m karras", "dpmpp_2m_karras"),
        ("DPM++2MKarras", "dpmpp_2m_karras"),
        ("dpmpp-2m-karras", "dpmpp_2m_karras"),
        ("DPM++ 3M SDE Exponential", "dpmpp_3m_sde_exponential"),
        ("Euler a", "euler_a"),
        ("EULER A", "euler_a"),
        ("Euler Beta", "euler_beta"),
        ("Euler SGM Uniform", "euler_trailing"),
        ("euler_sgm_uniform", "euler_trailing"),
        ("Euler a SGM Uniform", "euler_a_trailing"),
        ("DDIM trailing", "ddim_trailing"),
        ("PLMS", "pndm"),
        ("DDIM", "ddim"),
        ("UniPC", "unipc"),
        ("DPM2 a Karras", "kdpm2_a_karras"),
        ("Euler Uniform", "euler"),
        ("euler_normal", "euler"),
        ("euler_ancestral", "euler_a"),
        ("dpm_2_ancestral", "kdpm2_a"),
        ("dpmpp_2m_sde_gpu", "dpmpp_2m_sde"),
        ("uni_pc", "unipc"),
        ("uni_pc_bh2", "unipc"),
        ("K_EULER_ANCESTRAL", "euler_a"),
        ("EulerDiscreteScheduler", "EulerDiscreteScheduler"),
        ("eulerdiscretescheduler", "EulerDiscreteScheduler"),
        ("DPMSolverMultistep", "DPMSolverMultistepScheduler"),
    ],
)
def test_a_name_in_any_spelling(name: str, canonical: str) -> None:
    assert canonical_name(name) == canonical


@pytest.mark.parametrize("name", [*SHORT_NAMES, *SCHEDULERS])
def test_a_canonical_name_stays(name: str) -> None:
    assert canonical_name(name) == name


@pytest.mark.parametrize("stem", SHORT_NAMES)
def test_suffixes_are_those_that_the_scheduler_has(stem: str) -> None:
    options = SCHEDULERS[SHORT_NAMES[stem].scheduler].options
    having = [stem + suffix for suffix, chosen in SUFFIXES.items() if chosen.option in options]
    if stem in ("lcm", "tcd"):  # diffusers ignores the spacing: distillation fixed the timesteps
        having.remove(f"{stem}_trailing")
    assert variants_of(stem) == (stem, *having)


def test_every_scheduler_has_a_short_name() -> None:
    assert {short.scheduler for short in SHORT_NAMES.values()} == set(SCHEDULERS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("DPM++ SDE Karras", "have DPM++ SDE: use the nearest, 'dpmpp_2m_sde_karras'"),
        ("DPM++ 2S a Karras", "have DPM++ 2S a: use the nearest, 'dpmpp_2s_karras'"),
        ("DPM++ 2M SDE Heun", "use the nearest, 'dpmpp_2m_sde'"),
        ("DPMSolverSDEScheduler", "use the nearest, 'dpmpp_2m_sde'"),
        ("euler_ancestral_cfg_pp", "use the nearest, 'euler_a'"),
        ("DPM adaptive", "sdrt does not have DPM adaptive: use the nearest, 'dpmpp_3s'"),
        ("DDIM CFG++", "sdrt does not have DDIM CFG++: use the nearest, 'ddim'"),
        ("Euler KL Optimal", "have the schedule KL Optimal: use 'euler', 'euler_karras', "),
        ("DPM++ 2M Align Your Steps", "have the schedule Align Your Steps: use 'dpmpp_2m', "),
        ("Euler a Simple", "does not have the schedule Simple: use 'euler_a', 'euler_a_trailing'"),
        ("dpmpp_2m_karas", "is unknown: did you mean 'dpmpp_2m_karras'?"),
        ("eluer", "scheduler 'eluer' is unknown: did you mean 'euler'?"),
        ("EulerDiscreteSheduler", "did you mean 'EulerDiscreteScheduler'?"),
        ("SASolverScheduler", "is unknown: use one of ddim, ddpm, "),  # no other sampler is near
        ("AMEDScheduler", "is unknown: use one of ddim, ddpm, "),
        ("er_sde", "is unknown: use one of ddim, ddpm, "),
        ("_karras", "scheduler '_karras' is unknown"),
        ("", "scheduler '' is unknown: use one of ddim, "),
    ],
)
def test_names_that_sdrt_does_not_have(name: str, message: str) -> None:
    with pytest.raises(SamplerError) as caught:
        canonical_name(name)
    assert message in str(caught.value)


class DDIMScheduler:
    """Named as diffusers' own."""


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (DDIMScheduler(), "scheduler: got an object of class DDIMScheduler, expected a name: give"),
        (DDIMScheduler, "got the class DDIMScheduler, expected a name: give 'DDIMScheduler'"),
        (7, "got an object of class int, expected a name: give a name such as 'euler' or 'DDIM"),
    ],
)
def test_what_is_not_a_name(given: object, message: str) -> None:
    with pytest.raises(RequestError) as caught:
        canonical_name(given)
    assert message in str(caught.value)


def test_the_help_names_every_scheduler() -> None:
    assert {*SHORT_NAMES, *SUFFIXES} <= set(re.findall(r"\w+", schedulers_help()))
    assert "%" not in schedulers_help()  # argparse would take it for a format
