"""Every sampler against live diffusers."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from diffusers.schedulers import LMSDiscreteScheduler

from parity.sampler_harness import (
    SIGMAS,
    STABLE_DIFFUSION,
    ZERO_SNR,
    Case,
    cases,
    check_case,
    product_of,
)

pytestmark = [
    pytest.mark.parity,
    pytest.mark.usefixtures("nearest_rounding"),
    # diffusers' own: it hands torch tensors to numpy and calls its older algorithms deprecated
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context and return_scalar"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning"),
]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


EPSILON_OR_V = ("epsilon", "v_prediction")
V = ("v_prediction",)
CLIPPED = {"clip_sample": True, "clip_sample_range": 0.8}
THRESHOLDED = {
    "thresholding": True,
    "dynamic_thresholding_ratio": 0.9,
    "sample_max_value": 1.5,
}

FLOW: dict[str, Any] = {"prediction_types": [None], "spacings": [None], "base": {}}
CUSTOM_FLOW: dict[str, Any] = {**FLOW, "steps": [None]}
FLOW_VARIANTS: list[dict[str, Any]] = [
    {},
    {"shift_terminal": 0.1},
    {"invert_sigmas": True},
    {"stochastic_sampling": True},
    {"stochastic_sampling": True, "invert_sigmas": True},
]
# These schedulers compute all training timesteps when made, in a third of a second
SHORT = {**STABLE_DIFFUSION, "num_train_timesteps": 250}

ROWS = [
    # DDIM
    *cases("DDIMScheduler", [{"clip_sample": False}, CLIPPED, THRESHOLDED]),
    *cases("DDIMScheduler", [{"clip_sample": False, "set_alpha_to_one": False}], eta=0.7),
    *cases("DDIMScheduler", [CLIPPED], eta=1.0, use_clipped_model_output=True),
    *cases("DDIMScheduler", [ZERO_SNR], prediction_types=V),
    # DDPM
    *cases("DDPMScheduler", [{}, CLIPPED, THRESHOLDED]),
    *cases(
        "DDPMScheduler", [{"variance_type": name} for name in ("fixed_small_log", "fixed_large")]
    ),
    *cases("DDPMScheduler", [{"beta_schedule": name} for name in ("sigmoid", "laplace")]),
    *cases("DDPMScheduler", [ZERO_SNR], prediction_types=V),
    *cases("DDPMScheduler", spacings=[None], steps=[None], timesteps=[999, 600, 87, 1, 0]),
    # PNDM
    *cases(
        "PNDMScheduler",
        product_of(skip_prk_steps=[True, False], set_alpha_to_one=[True, False]),
        prediction_types=EPSILON_OR_V,
        steps=(4, 10, 25),
    ),
    # LMS
    *cases("LMSDiscreteScheduler", SIGMAS),
    # Euler
    *cases("EulerDiscreteScheduler", SIGMAS),
    *cases(
        "EulerDiscreteScheduler",
        [{"final_sigmas_type": "sigma_min"}, {"interpolation_type": "log_linear"}],
    ),
    *cases(
        "EulerDiscreteScheduler",
        [{"sigma_min": 0.1, "sigma_max": 10.0, **sigmas} for sigmas in SIGMAS],
    ),
    *cases(
        "EulerDiscreteScheduler", [ZERO_SNR, {"timestep_type": "continuous"}], prediction_types=V
    ),
    *cases("EulerDiscreteScheduler", spacings=[None], steps=[None], timesteps=[999, 600.5, 87, 1]),
    *cases(
        "EulerDiscreteScheduler", spacings=[None], steps=[None], sigmas=[14.0, 5.0, 1.0, 0.1, 0.0]
    ),
    # Euler ancestral
    *cases("EulerAncestralDiscreteScheduler", prediction_types=EPSILON_OR_V),
    *cases("EulerAncestralDiscreteScheduler", [ZERO_SNR], prediction_types=V),
    # Heun
    *cases("HeunDiscreteScheduler", SIGMAS),
    *cases("HeunDiscreteScheduler", [CLIPPED, {"beta_schedule": "exp"}]),
    *cases("HeunDiscreteScheduler", spacings=[None], steps=[None], timesteps=[999, 600, 87, 1]),
    # KDPM2
    *cases("KDPM2DiscreteScheduler", SIGMAS, prediction_types=EPSILON_OR_V, base=SHORT),
    *cases("KDPM2DiscreteScheduler", prediction_types=V, spacings=["linspace"]),
    *cases("KDPM2AncestralDiscreteScheduler", SIGMAS, prediction_types=EPSILON_OR_V, base=SHORT),
    *cases("KDPM2AncestralDiscreteScheduler", prediction_types=V, spacings=["linspace"]),
    # The limits that some configurations carry
    *(
        case
        for name in ("LMSDiscrete", "HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete")
        for case in cases(
            f"{name}Scheduler",
            [{"sigma_min": 0.1, "sigma_max": 1.2, **sigmas} for sigmas in SIGMAS],
            prediction_types=V,
            spacings=["leading"],
            base=SHORT,
        )
    ),
    # LCM, TCD
    *cases("LCMScheduler", [{}, CLIPPED, THRESHOLDED, {"timestep_scaling": 1.0}], spacings=[None]),
    *cases("LCMScheduler", [ZERO_SNR], prediction_types=V, spacings=[None], steps=(1, 4)),
    *cases("LCMScheduler", spacings=[None], steps=[None], timesteps=[999, 499, 19]),
    *cases("TCDScheduler", spacings=[None], eta=0.0),
    *cases("TCDScheduler", [{"original_inference_steps": 100}], spacings=[None], eta=0.3),
    *cases("TCDScheduler", [ZERO_SNR], prediction_types=V, spacings=[None], steps=(1, 4), eta=0.5),
    *cases("TCDScheduler", spacings=[None], steps=[None], timesteps=[999, 499, 19], eta=1.0),
    # Flow matching
    *cases("FlowMatchEulerDiscreteScheduler", [{"shift": 3.0, **s} for s in SIGMAS], **FLOW),
    *cases("FlowMatchEulerDiscreteScheduler", FLOW_VARIANTS, **FLOW),
    *cases(
        "FlowMatchEulerDiscreteScheduler",
        [{"sigma_min": 0.02, "sigma_max": 0.9, **sigmas} for sigmas in SIGMAS],
        **FLOW,
    ),
    *cases(
        "FlowMatchEulerDiscreteScheduler",
        product_of(use_dynamic_shifting=[True], time_shift_type=["exponential", "linear"]),
        **FLOW,
        mu=0.7,
    ),
    *cases(
        "FlowMatchEulerDiscreteScheduler", [{"shift": 3.0}], **CUSTOM_FLOW, sigmas=[1.0, 0.6, 0.2]
    ),
    *cases(
        "FlowMatchEulerDiscreteScheduler",
        [{"shift": 3.0}],
        **CUSTOM_FLOW,
        timesteps=[1000, 600, 20],
    ),
    *cases("FlowMatchHeunDiscreteScheduler", [{}, {"shift": 3.0}], **FLOW),
]

# From the middle on, as img2img does
STARTED = [
    *(
        case
        for name in ("DDIM", "DDPM", "LMSDiscrete", "EulerDiscrete", "EulerAncestralDiscrete")
        for case in cases(f"{name}Scheduler", start=4, prediction_types=V)
    ),
    *(
        case
        for name in ("HeunDiscrete", "KDPM2Discrete", "KDPM2AncestralDiscrete")
        for case in cases(f"{name}Scheduler", start=6, prediction_types=V, base=SHORT)
    ),
    *cases("PNDMScheduler", [{"skip_prk_steps": True}], start=1, prediction_types=V),
    *cases("PNDMScheduler", [{"skip_prk_steps": True}], start=5, prediction_types=V),
    *cases("LCMScheduler", start=2, spacings=[None]),
    *cases("TCDScheduler", start=2, spacings=[None], eta=0.3),
    *cases("FlowMatchEulerDiscreteScheduler", start=3, **FLOW),
    *cases("FlowMatchHeunDiscreteScheduler", start=4, **FLOW),
]


@pytest.fixture(autouse=True, scope="module")
def _lms_coefficients_once() -> Iterator[None]:
    """Diffusers integrates LMS' coefficients numerically; once per schedule is enough."""
    known: dict[tuple[Any, ...], float] = {}
    original = LMSDiscreteScheduler.get_lms_coefficient

    def remembered(self: LMSDiscreteScheduler, *index: int) -> float:
        key = (self.sigmas.numpy().tobytes(), *index)
        if key not in known:
            known[key] = original(self, *index)
        return known[key]

    LMSDiscreteScheduler.get_lms_coefficient = remembered
    yield
    LMSDiscreteScheduler.get_lms_coefficient = original


@pytest.mark.parametrize("case", [*ROWS, *STARTED], ids=str)
def test_same_schedule_and_latents(case: Case) -> None:
    check_case(case)
