"""DPM-Solver, UniPC and DEIS against live diffusers."""

import contextlib
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any

import numpy as np
import pytest
import torch

from parity.sampler_harness import (
    SEED,
    SIGMAS,
    ZERO_SNR,
    Case,
    cases,
    check_case,
    first_latents,
    model,
    schedule_of,
    scheduler_of,
    their_trajectory,
)
from sdrt.denoising.noise import TorchNoise
from sdrt.samplers.protocol import Update

pytestmark = [
    pytest.mark.parity,
    pytest.mark.usefixtures("nearest_rounding"),
    # diffusers' own: it hands torch tensors to numpy and calls its older algorithms deprecated
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context:DeprecationWarning"),
    pytest.mark.filterwarnings("ignore:.*is deprecated and will be removed:FutureWarning"),
]

MULTI, SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, DEIS = "UniPCMultistepScheduler", "DEISMultistepScheduler"

THRESHOLD = {"thresholding": True, "dynamic_thresholding_ratio": 0.9, "sample_max_value": 1.5}
CLIPPED_COSINE = {"beta_schedule": "squaredcos_cap_v2", "lambda_min_clipped": -5.1}
FLOW = {"use_flow_sigmas": True, "flow_shift": 3.0}
SIGMA_MIN = {"final_sigmas_type": "sigma_min"}
# Diffusers' formula has a wrong sign here (see Span.w2). It amplifies every difference, even in the
# last bit, sevenfold in each block of three steps.
GROWING = (
    SINGLE,
    {"algorithm_type": "sde-dpmsolver++", "solver_type": "heun", "solver_order": 3},
)
CUSTOM = [981, 800, 555, 400, 398, 200, 60, 7]


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


def one_by_one(scheduler: str, *variants: Mapping[str, Any], **more: Any) -> Iterator[Case]:
    """Each variant as it is, in one spacing: cases that need no product with the rest."""
    settings = {"prediction_types": [None], "spacings": ["linspace"], **more}
    if scheduler == SINGLE:
        settings["spacings"] = [None]
    return cases(scheduler, variants, **settings)


def dpm_algorithms(scheduler: str, names: list[str]) -> Iterator[Case]:
    """Every algorithm × solver type × order; noise prediction cannot end in the image itself."""
    both = ["epsilon", "v_prediction"]
    for algorithm, kind, order in product(names, ["midpoint", "heun"], [1, 2, 3]):
        if (algorithm, order) == ("sde-dpmsolver", 3):
            continue
        solver = {"algorithm_type": algorithm, "solver_type": kind, "solver_order": order}
        steps = [10] if (scheduler, solver) == GROWING else [10, 25]
        minimum = {**solver, **SIGMA_MIN}
        yield from one_by_one(scheduler, minimum, prediction_types=both, steps=steps)
        if algorithm.endswith("++"):
            yield from one_by_one(scheduler, solver, steps=steps)


DPM_MULTISTEP = [
    *cases(MULTI, SIGMAS),
    *dpm_algorithms(MULTI, ["dpmsolver", "dpmsolver++", "sde-dpmsolver", "sde-dpmsolver++"]),
    *cases(MULTI, [ZERO_SNR, {"use_lu_lambdas": True}]),
    *cases(MULTI, [THRESHOLD], spacings=["linspace"]),
    *one_by_one(
        MULTI,
        {"lower_order_final": False, "solver_order": 3, **SIGMA_MIN},
        {"euler_at_final": True, **SIGMA_MIN},
        {"algorithm_type": "dpmsolver", **SIGMA_MIN, **THRESHOLD},
        {"use_karras_sigmas": True, **SIGMA_MIN},
        {"use_karras_sigmas": True, "use_lu_lambdas": True},
        {**FLOW, "prediction_type": "flow_prediction"},
        {**FLOW, "prediction_type": "sample", **SIGMA_MIN},
        {**FLOW, "prediction_type": "flow_prediction", "algorithm_type": "sde-dpmsolver++"},
        {"solver_type": "bh2", "algorithm_type": "deis", **SIGMA_MIN},
        {"trained_betas": [0.001 + 0.00001 * i for i in range(1000)]},
    ),
    *one_by_one(MULTI, CLIPPED_COSINE, spacings=["linspace", "leading", "trailing"]),
    *one_by_one(MULTI, {}, steps=[1, 2, 3, 14, 15, 100]),
    *one_by_one(MULTI, {"solver_order": 3}, {"algorithm_type": "sde-dpmsolver++"}, steps=[1, 2, 3]),
    *one_by_one(MULTI, {}, {"solver_order": 3}, steps=[8], timesteps=CUSTOM),
    *one_by_one(
        MULTI,
        {"use_flow_sigmas": True, "use_dynamic_shifting": True},
        prediction_types=["flow_prediction"],
        mu=0.7,
    ),
]
DPM_SINGLESTEP = [
    *cases(SINGLE, SIGMAS, spacings=[None]),
    *dpm_algorithms(SINGLE, ["dpmsolver", "dpmsolver++", "sde-dpmsolver++"]),
    *cases(SINGLE, [{"lower_order_final": True}, THRESHOLD], spacings=[None]),
    *one_by_one(SINGLE, CLIPPED_COSINE, {**FLOW, "prediction_type": "flow_prediction"}),
    *one_by_one(
        SINGLE,
        *({"solver_order": order, "lower_order_final": True, **SIGMA_MIN} for order in (1, 2, 3)),
        {"solver_order": 3},
        steps=[1, 2, 3, 4, 9, 14],
    ),
    *one_by_one(SINGLE, {"solver_order": 2, **SIGMA_MIN}, steps=[2, 4, 14]),
    *one_by_one(SINGLE, {"solver_order": 3, **SIGMA_MIN}, steps=[3, 9]),
    # Uneven numbers turn lower_order_final on, in diffusers for the scheduler's lifetime
    *one_by_one(SINGLE, {"solver_order": 2, **SIGMA_MIN, **THRESHOLD}, steps=[1, 3, 9]),
    *one_by_one(SINGLE, {"solver_order": 3, **SIGMA_MIN, **THRESHOLD}, steps=[1, 2, 4, 14]),
    *one_by_one(SINGLE, {}, {"solver_order": 3}, steps=[8], timesteps=CUSTOM),
]
UNIPC_ROWS = [
    *cases(UNIPC, SIGMAS),
    *cases(
        UNIPC,
        [
            {"solver_type": kind, "solver_order": order, **SIGMA_MIN, "predict_x0": predict_x0}
            for kind, order, predict_x0 in product(["bh1", "bh2"], [1, 2, 3], [True, False])
        ],
        spacings=["linspace"],
    ),
    *cases(UNIPC, [ZERO_SNR]),
    *cases(UNIPC, [THRESHOLD], spacings=["linspace"]),
    *one_by_one(
        UNIPC,
        {"solver_order": 3},
        {"disable_corrector": [0]},
        {"disable_corrector": [0, 1, 5]},
        {"lower_order_final": False, **SIGMA_MIN},
        {"lower_order_final": False, "solver_order": 3, **SIGMA_MIN},
        {"lower_order_final": False, "use_karras_sigmas": True, **SIGMA_MIN},
        {"use_karras_sigmas": True, **SIGMA_MIN},
        {"use_karras_sigmas": True, "sigma_min": 0.05, "sigma_max": 10.0},
        {"use_exponential_sigmas": True, "sigma_min": 0.05, "sigma_max": 10.0, **SIGMA_MIN},
        {"predict_x0": False, **SIGMA_MIN, **THRESHOLD},
        {"solver_type": "midpoint"},
        {**FLOW, "prediction_type": "sample"},
    ),
    *one_by_one(UNIPC, {}, steps=[1, 2, 3, 14, 15, 100]),
    *one_by_one(
        UNIPC,
        FLOW,
        {"use_flow_sigmas": True},
        {**FLOW, **SIGMA_MIN},
        {**FLOW, "shift_terminal": 0.1},
        {**FLOW, "use_karras_sigmas": True, "sigma_min": 0.01, "sigma_max": 200.0},
        prediction_types=["flow_prediction"],
    ),
    *one_by_one(
        UNIPC,
        FLOW,
        prediction_types=["flow_prediction"],
        steps=[4],
        sigmas=np.array([1.0, 0.75, 0.5, 0.25]),
    ),
    *one_by_one(
        UNIPC,
        {"use_flow_sigmas": True, "use_dynamic_shifting": True},
        {"use_flow_sigmas": True, "use_dynamic_shifting": True, "time_shift_type": "linear"},
        prediction_types=["flow_prediction"],
        mu=0.7,
    ),
]
DEIS_ROWS = [
    *cases(DEIS, SIGMAS),
    *cases(DEIS, [{"solver_order": 1}, {"solver_order": 3}]),
    *cases(DEIS, [THRESHOLD], spacings=["linspace"]),
    *one_by_one(
        DEIS,
        {"lower_order_final": False, "solver_order": 3},
        {"lower_order_final": False, "use_karras_sigmas": True},
        {**FLOW, "prediction_type": "flow_prediction"},
        {"solver_type": "bh2", "algorithm_type": "dpmsolver++"},
    ),
    *one_by_one(DEIS, {}, {"solver_order": 3}, steps=[1, 2, 3, 14, 15]),
    *one_by_one(DEIS, {}, steps=[100]),
]
FROM_THE_MIDDLE = [
    Case(scheduler, {"solver_order": order, **options}, steps, start)
    for (scheduler, options), order, (steps, start) in product(
        [
            (MULTI, {}),
            (MULTI, {"algorithm_type": "sde-dpmsolver++"}),
            (SINGLE, {}),
            (UNIPC, {}),
            (DEIS, {}),
        ],
        [2, 3],
        [(10, 1), (10, 5), (25, 4), (25, 23)],
    )
]
ROWS = [*DPM_MULTISTEP, *DPM_SINGLESTEP, *UNIPC_ROWS, *DEIS_ROWS, *FROM_THE_MIDDLE]


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_same_schedule_and_latents(case: Case) -> None:
    check_case(case)


@pytest.mark.parametrize("case", [*one_by_one(*GROWING, steps=[25])], ids=str)
def test_each_step_from_diffusers_latents(case: Case) -> None:
    """For growing differences: each step equals diffusers' if it starts from diffusers' latents."""
    schedule = schedule_of(case)
    x = first_latents(case, schedule)
    expected = iter(their_trajectory(scheduler_of(case), case, x, model))
    noise = TorchNoise(SEED)
    sampler = schedule.run(x, lambda: noise.normal(x.shape))
    event, num_steps = next(sampler), 0
    with contextlib.suppress(StopIteration):
        while True:
            if isinstance(event, Update):
                answer, num_steps = next(expected), num_steps + 1
                assert np.abs(event.latents - answer).max() <= 1e-5 * np.abs(answer).max()
            else:
                answer = model(event.sample, event.timestep)
            event = sampler.send(answer)
    assert num_steps == 25
