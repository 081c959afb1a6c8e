"""Names, options and refusals."""

from __future__ import annotations

from typing import Any

import pytest

from sdrt.errors import SamplerError
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.schedulers import SCHEDULERS
from sdrt.scheduler_names import SHORT_NAMES

# Stable Diffusion 1.5's, as published
SD15 = {
    "_class_name": "PNDMScheduler",
    "_diffusers_version": "0.6.0",
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "beta_start": 0.00085,
    "clip_sample": False,
    "num_train_timesteps": 1000,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}


def test_a_configuration_selects_its_scheduler() -> None:
    config = SamplerConfig.from_diffusers(SD15)
    assert config.scheduler == "PNDMScheduler"
    assert config.options.beta_start == 0.00085
    assert config.options.skip_prk_steps
    assert config.options.timestep_spacing == "leading"  # PNDM's own default


def test_another_scheduler_takes_what_is_given_over_its_own_defaults() -> None:
    euler = SamplerConfig.from_diffusers(SD15).renamed("euler")
    assert euler.scheduler == "EulerDiscreteScheduler"
    assert euler.options.beta_schedule == "scaled_linear"  # given
    assert euler.options.steps_offset == 1  # given
    assert euler.options.timestep_spacing == "linspace"  # Euler's own default
    ddim = euler.renamed("ddim")
    assert ddim.options.clip_sample is False  # given to PNDM, which ignores it
    assert ddim.options.set_alpha_to_one is False


@pytest.mark.parametrize("name", SHORT_NAMES)
def test_every_short_name_has_a_schedule(name: str) -> None:
    config = SamplerConfig.from_diffusers(SD15).renamed(name)
    assert config.scheduler == SHORT_NAMES[name].scheduler
    assert len(config.schedule(6).timesteps) >= 6


@pytest.mark.parametrize("name", SCHEDULERS)
def test_every_class_name_has_a_schedule(name: str) -> None:
    config = SamplerConfig.from_diffusers(SD15).renamed(name)
    assert config.scheduler == name
    assert callable(config.schedule(6).run)


@pytest.mark.parametrize(
    ("name", "spelling"),
    [
        ("dpmpp_2m_karras", "use_karras_sigmas"),
        ("lms_karras", "use_karras_sigmas"),
        ("euler_exponential", "use_exponential_sigmas"),
        ("heun_beta", "use_beta_sigmas"),
    ],
)
def test_a_suffix_sets_its_sigmas(name: str, spelling: str) -> None:
    assert getattr(SamplerConfig.from_diffusers(SD15).renamed(name).options, spelling)


def test_a_short_name_says_the_whole_variant_and_a_class_name_keeps_what_is_given() -> None:
    karras = SamplerConfig.from_diffusers({**SD15, "use_karras_sigmas": True})
    assert not karras.renamed("euler").options.use_karras_sigmas
    assert karras.renamed("EulerDiscreteScheduler").options.use_karras_sigmas
    assert not karras.renamed("euler_beta").options.use_karras_sigmas


def test_corrections_go_over_what_is_given() -> None:
    config = SamplerConfig("PNDMScheduler", {"steps_offset": 0, "beta_end": 0.012})
    corrected = config.corrected({"steps_offset": 1, "skip_prk_steps": True})
    assert corrected.scheduler == "PNDMScheduler"
    assert corrected.given == {"steps_offset": 1, "beta_end": 0.012, "skip_prk_steps": True}


def test_a_correction_of_other_schedulers_is_left_out() -> None:
    """It would follow the configuration to other schedulers, where diffusers does not have it."""
    corrections = {"clip_sample": False}
    euler = SamplerConfig("EulerDiscreteScheduler").corrected(corrections)
    assert euler.given == {} and euler.renamed("ddim").options.clip_sample
    given = SamplerConfig("EulerDiscreteScheduler", {"clip_sample": True}).corrected(corrections)
    assert given.given == {"clip_sample": False}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dpmpp_2m_karas", "scheduler 'dpmpp_2m_karas' is unknown: did you mean 'dpmpp_2m_karras'"),
        ("EulerDiscreteSheduler", "did you mean 'EulerDiscreteScheduler'"),
        ("ddim_karras", "ddim has no use_karras_sigmas: use 'ddim'"),
        ("_karras", "scheduler '_karras' is unknown"),
        ("", "scheduler '' is unknown"),
    ],
)
def test_unknown_names(name: str, message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        SamplerConfig.from_diffusers(SD15).renamed(name)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"_class_name": "DDIMSchedulr"},
            "'DDIMSchedulr' is unknown: did you mean 'DDIMScheduler'",
        ),
        ({"_class_name": None}, "no _class_name"),
        ({"use_karas_sigmas": True}, "'use_karas_sigmas' is unknown: did you mean 'use_karras_s"),
        ({"zzz": 1}, "'zzz' is unknown: remove it"),
        ({"beta_schedule": "quadratic"}, "beta_schedule: got 'quadratic', expected one of linear"),
        ({"beta_start": "a"}, "beta_start: got 'a', expected a number"),
        ({"beta_start": True}, "beta_start: got True, expected a number"),
        ({"steps_offset": 0.5}, "steps_offset: got 0.5, expected an integer"),
        ({"skip_prk_steps": 1}, "skip_prk_steps: got 1, expected true or false"),
        ({"trained_betas": [0.1, "x"]}, "trained_betas: got .* expected a list of numbers or null"),
        (
            {"trained_betas": [0.1, 0.2]},
            "trained_betas: got 2 values, expected num_train",
        ),
        ({"num_train_timesteps": 0}, "num_train_timesteps: got 0, expected 2 to"),
        ({"prediction_type": "sample"}, "PNDMScheduler cannot use prediction_type 'sample'"),
        ({"timestep_spacing": None}, "timestep_spacing: got None, expected one of linspace"),
    ],
)
def test_impossible_configurations(change: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        SamplerConfig.from_diffusers({**SD15, **change})


def test_two_kinds_of_sigmas_at_once() -> None:
    options = {"use_karras_sigmas": True, "use_beta_sigmas": True}
    with pytest.raises(SamplerError, match="use_karras_sigmas and use_beta_sigmas are both set"):
        SamplerConfig("EulerDiscreteScheduler", options)


def test_json_s_spellings() -> None:
    options = {"beta_end": 1, "use_karras_sigmas": None, "trained_betas": [0.1] * 1000}
    config = SamplerConfig("EulerDiscreteScheduler", options)
    assert config.options.beta_end == 1.0
    assert config.options.use_karras_sigmas is False
    assert config.options.trained_betas == (0.1,) * 1000


@pytest.mark.parametrize(
    ("scheduler", "given", "message"),
    [
        ("euler", {}, "num_inference_steps is missing"),
        ("euler", {"num_inference_steps": 0}, "num_inference_steps: got 0, expected 1 to 1000"),
        ("ddim", {"num_inference_steps": 1001}, "got 1001, expected 1 to 1000"),
        ("lcm", {"num_inference_steps": 51}, "got 51, expected 1 to 50"),
        ("euler", {"timesteps": [5, 1], "sigmas": [1.0, 0.0]}, "both given"),
        ("euler", {"timesteps": []}, "timesteps: got an empty list"),
        ("euler", {"timesteps": [5, float("nan")]}, "expected finite values"),
        ("euler", {"timesteps": [5, -1]}, "expected finite values of at least 0"),
        ("euler", {"timesteps": [0]}, "timesteps: got 0 as the first, expected it above 0 and 999"),
        ("euler", {"timesteps": [999.5, 1]}, "timesteps: got 999.5 as the first"),
        ("euler", {"timesteps": [5, 5]}, r"timesteps: got \[5, 5\], expected a descending list"),
        ("euler", {"timesteps": [5, 4.9999999]}, "expected a descending list"),
        ("ddpm", {"timesteps": [5.5, 1]}, "timesteps: got 5.5, expected whole numbers for this"),
        ("dpmpp_2m", {"timesteps": [5.5, 1]}, "timesteps: got 5.5, expected whole numbers"),
        ("lcm", {"timesteps": [5, 1.5]}, "timesteps: got 1.5, expected whole numbers"),
        (
            "euler",
            {"sigmas": [1.0]},
            r"sigmas: got \[1.0\], expected levels of at least 1e-06, and",
        ),
        ("euler", {"sigmas": [1.0, 0.0, 0.5]}, "expected levels of at least 1e-06, and behind"),
        ("euler", {"sigmas": [1.0, 2.0]}, r"sigmas: got \[1.0, 2.0\], expected a descending list"),
        ("euler", {"sigmas": [5.0, 5.0]}, "expected a descending list"),
        ("euler", {"sigmas": [30.0, 0.0]}, "sigmas: got 30 as the first, expected 14.61 or less"),
        ("euler_karras", {"timesteps": [5, 1]}, "together with use_karras_sigmas"),
        (
            "ddim",
            {"timesteps": [5, 1]},
            "DDIMScheduler takes no timesteps: these schedulers do: DDPM",
        ),
        (
            "euler",
            {"num_inference_steps": 5, "eta": 0.5},
            "takes no eta: these schedulers do: DDIMScheduler",
        ),
        ("ddim", {"num_inference_steps": 5, "eta": 1.5}, "eta: got 1.5, expected 0 to 1"),
        ("ddim", {"num_inference_steps": 1000}, "steps_offset: 1 moves the first of 1000"),
        ("pndm", {"num_inference_steps": 1000}, "steps_offset: 1 moves"),
    ],
)
def test_impossible_steps(scheduler: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        SamplerConfig.from_diffusers(SD15).renamed(scheduler).schedule(**given)


def test_pndm_needs_four_steps_for_runge_kutta() -> None:
    config = SamplerConfig("PNDMScheduler")
    with pytest.raises(SamplerError, match=r"got 3, expected at least 4 .* another scheduler"):
        config.schedule(3)


@pytest.mark.parametrize("name", ["fixed_large_log", "nonsense", None])
def test_ddpm_refuses_variances_that_give_no_image(name: str | None) -> None:
    config = SamplerConfig("DDPMScheduler", {"variance_type": name})
    with pytest.raises(SamplerError, match=r"variance_type: got .* expected one of fixed_small"):
        config.schedule(10)


def test_dynamic_shifting_needs_mu() -> None:
    config = SamplerConfig("FlowMatchEulerDiscreteScheduler", {"use_dynamic_shifting": True})
    with pytest.raises(SamplerError, match="needs mu"):
        config.schedule(10)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"sigmas": [1.5, 0.5]}, "sigmas: got 1.5 to 0.5, expected values above 0, and 1 at most"),
        ({"sigmas": [1.0, 0.0]}, "sigmas: got 1 to 0, expected values above 0"),
        ({"sigmas": [0.5, 0.5]}, "expected a descending list"),
        ({"timesteps": [1001.0, 5.0]}, "timesteps: got 1001 to 5, expected values above 0, and 10"),
        ({"timesteps": [5, 10]}, "expected a descending list"),
    ],
)
def test_impossible_steps_of_flow_matching(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        SamplerConfig("FlowMatchEulerDiscreteScheduler").schedule(**given)


def test_a_correction_that_no_scheduler_has_is_refused() -> None:
    with pytest.raises(SamplerError, match="scheduler option 'a' is unknown"):
        SamplerConfig("DDIMScheduler").corrected({"a": 1})
