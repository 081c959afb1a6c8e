"""Options, tables and the small pieces against live diffusers, torch and scipy."""

from __future__ import annotations

from inspect import signature
from typing import Any

import diffusers.schedulers
import numpy as np
import pytest
import scipy.stats
import torch

from parity.sampler_harness import (
    Case,
    cases,
    check_case,
    schedule_of,
    scheduler_of,
)
from sdrt.samplers import tables
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.numerics import beta_quantile, torch_linspace
from sdrt.samplers.options import LIMITS, Options
from sdrt.samplers.prediction import threshold
from sdrt.samplers.schedulers import SCHEDULERS

pytestmark = [
    pytest.mark.parity,
    pytest.mark.usefixtures("nearest_rounding"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context and return_scalar"),
]

V = ("v_prediction",)


def their_defaults(scheduler: str) -> dict[str, Any]:
    """The options of diffusers' class that change numbers, with their defaults."""
    parameters = signature(getattr(diffusers.schedulers, scheduler).__init__).parameters
    ignored = {"self"}
    if scheduler == "DEISMultistepScheduler":  # it replaces any other value by the default
        ignored |= {"algorithm_type", "solver_type"}
    return {name: p.default for name, p in parameters.items() if name not in ignored}


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_scheduler_takes_diffusers_options_with_its_defaults(scheduler: str) -> None:
    ours, theirs = dict(SCHEDULERS[scheduler].options), their_defaults(scheduler)
    for name in set(LIMITS) - theirs.keys():  # read from any config that has them
        ours.pop(name, None)
    assert {name: list(v) if isinstance(v, tuple) else v for name, v in ours.items()} == theirs


PNDM_15 = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "clip_sample": False,
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
    "trained_betas": None,
}
EULER_XL = {
    **PNDM_15,
    "interpolation_type": "linear",
    "prediction_type": "epsilon",
    "sample_max_value": 1.0,
    "timestep_spacing": "leading",
    "use_karras_sigmas": True,
}


@pytest.mark.parametrize("target", [name for name in SCHEDULERS if "FlowMatch" not in name])
@pytest.mark.parametrize(
    ("source", "given"), [("PNDMScheduler", PNDM_15), ("EulerDiscreteScheduler", EULER_XL)]
)
def test_another_scheduler_over_a_configuration(
    source: str, given: dict[str, Any], target: str
) -> None:
    """`Target.from_config(source.config)`: given options stay, defaults are the target's."""
    config = getattr(diffusers.schedulers, source).from_config(given).config
    theirs = getattr(diffusers.schedulers, target).from_config(config).config
    ours = SamplerConfig(source, given).renamed(target).options
    for name in their_defaults(target):
        value = theirs[name]
        expected = tuple(value) if isinstance(value, list) else value
        assert getattr(ours, name) == expected, name


@pytest.mark.parametrize("zero_snr", [False, True])
@pytest.mark.parametrize(
    "beta_schedule", ["linear", "scaled_linear", "squaredcos_cap_v2", "sigmoid", "laplace"]
)
def test_alphas_cumprod(beta_schedule: str, zero_snr: bool) -> None:
    """To the last bit."""
    given: dict[str, Any] = {"beta_schedule": beta_schedule, "rescale_betas_zero_snr": zero_snr}
    theirs = diffusers.schedulers.DDPMScheduler(**given).alphas_cumprod.numpy()
    ours = tables.alphas_cumprod_from_options(Options(**given))
    assert ours.dtype == np.float32
    np.testing.assert_array_equal(ours, theirs)


def test_trained_betas_and_exp() -> None:
    betas = np.linspace(0.01, 0.02, 1000).tolist()
    given: dict[str, Any] = {"trained_betas": betas}
    theirs = diffusers.schedulers.DDPMScheduler(**given).alphas_cumprod.numpy()
    np.testing.assert_array_equal(tables.alphas_cumprod_from_options(Options(**given)), theirs)
    theirs = diffusers.schedulers.HeunDiscreteScheduler(beta_schedule="exp").alphas_cumprod.numpy()
    ours = tables.alphas_cumprod_from_options(Options(beta_schedule="exp"))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 33, 1000, 1100])
@pytest.mark.parametrize(("start", "end"), [(1e-4, 0.02), (0.00085**0.5, 0.012**0.5), (-6, 6)])
def test_linspace_to_the_last_bit(start: float, end: float, n: int) -> None:
    theirs = torch.linspace(start, end, n, dtype=torch.float32).numpy()
    np.testing.assert_array_equal(torch_linspace(start, end, n), theirs)


@pytest.mark.parametrize("n", [1, 2, 3, 10, 25, 1000])
def test_beta_quantiles(n: int) -> None:
    p = 1 - np.linspace(0, 1, n)
    theirs = scipy.stats.beta.ppf(p, 0.6, 0.6)
    np.testing.assert_allclose(beta_quantile(p), theirs, rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("ratio", [0.0, 0.5, 0.87, 0.995, 1.0])
@pytest.mark.parametrize("max_value", [0.5, 1.0, 1.5, 100.0])
def test_dynamic_thresholding(ratio: float, max_value: float) -> None:
    x0 = np.random.default_rng(0).standard_normal((3, 4, 8, 8)).astype(np.float32) * 2
    scheduler = diffusers.schedulers.DDPMScheduler(
        thresholding=True, dynamic_thresholding_ratio=ratio, sample_max_value=max_value
    )
    theirs = scheduler._threshold_sample(torch.from_numpy(x0)).numpy()
    ours = threshold(x0, ratio, max_value)
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-6)


ADDED = [
    case
    for name in SCHEDULERS
    if "FlowMatch" not in name
    for case in cases(
        name,
        [{"skip_prk_steps": True}] if "PNDM" in name else [{}],
        prediction_types=V,
        spacings=[None],
        steps=[10],
    )
]


@pytest.mark.parametrize("case", ADDED, ids=str)
@pytest.mark.parametrize("step", [0, 3, 9])
def test_add_noise(case: Case, step: int) -> None:
    theirs, schedule = scheduler_of(case), schedule_of(case)
    index = step * schedule.calls_per_step
    if hasattr(theirs, "set_begin_index"):
        theirs.set_begin_index(index)
    rng = np.random.default_rng(0)
    x0, noise = (rng.standard_normal((2, 4, 8, 8)).astype(np.float32) for _ in range(2))
    t = theirs.timesteps[index].repeat(2)
    expected = theirs.add_noise(torch.from_numpy(x0), torch.from_numpy(noise), t).numpy()
    np.testing.assert_allclose(schedule.add_noise(x0, noise, index), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("variance_type", ["learned", "learned_range"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddpm_with_a_learned_variance(variance_type: str, spacing: str) -> None:
    def model(sample: np.ndarray, timestep: float) -> np.ndarray:
        return np.concatenate([np.tanh(sample), np.abs(np.sin(sample))], axis=1)  # (B, 2C, h, w)

    options = {"variance_type": variance_type, "timestep_spacing": spacing}
    check_case(Case("DDPMScheduler", options), model)
