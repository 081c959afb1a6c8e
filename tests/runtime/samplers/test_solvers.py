"""DPM-Solver, UniPC and DEIS: diffusers' own oracles, and refusals.

The oracles' rows are from diffusers' tests/schedulers/test_scheduler_{dpm_multi,dpm_single,unipc,
deis}.py.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from runtime.samplers.oracle import (
    A,
    assert_sum_and_mean,
    dummy_noise,
    dummy_sample,
    oracle_loop,
)
from sdrt.errors import SamplerError
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.protocol import Call, Update
from sdrt.samplers.schedule import Schedule

MULTI, SINGLE = "DPMSolverMultistepScheduler", "DPMSolverSinglestepScheduler"
UNIPC, DEIS = "UniPCMultistepScheduler", "DEISMultistepScheduler"

D = {
    **A,
    "solver_order": 2,
    "prediction_type": "epsilon",
    "thresholding": False,
    "sample_max_value": 1.0,
    "algorithm_type": "dpmsolver++",
    "solver_type": "midpoint",
    "lambda_min_clipped": float("-inf"),
    "variance_type": None,
    "final_sigmas_type": "sigma_min",
}
D_MULTI = {**D, "lower_order_final": False, "euler_at_final": False}
UNIPC_BASE = {**A, "solver_order": 2, "solver_type": "bh2", "final_sigmas_type": "sigma_min"}
V = {"prediction_type": "v_prediction"}
KARRAS = {"use_karras_sigmas": True}
THRESHOLD = {"thresholding": True, "dynamic_thresholding_ratio": 0.87, "sample_max_value": 0.5}


def schedule_of(
    scheduler: str, options: Mapping[str, Any], steps: int = 10, **more: Any
) -> Schedule:
    return SamplerConfig(scheduler, options).schedule(steps, **more)


@pytest.mark.parametrize(
    "scheduler, options, total, mean",
    [
        (MULTI, D_MULTI, 253.5514, 0.3301),
        (MULTI, {**D_MULTI, **THRESHOLD}, None, 1.1364),
        (MULTI, {**D_MULTI, **V}, 172.8740, 0.2251),
        (MULTI, {**D_MULTI, **V, **KARRAS}, 160.6643, 0.2096),
        (MULTI, {**D_MULTI, **V, "use_lu_lambdas": True}, None, 0.1554),
        (SINGLE, D, None, 0.2791),
        (SINGLE, {**D, **KARRAS}, None, 0.2248),
        (SINGLE, {**D, **V}, None, 0.1453),
        (SINGLE, {**D, **V, **KARRAS}, None, 0.0649),
        (UNIPC, UNIPC_BASE, None, 0.2464),
        (UNIPC, {**UNIPC_BASE, **KARRAS}, None, 0.2925),
        (UNIPC, {**UNIPC_BASE, **V}, None, 0.1014),
        (UNIPC, {**UNIPC_BASE, **V, **KARRAS}, None, 0.1966),
        (DEIS, {**A, "solver_order": 2}, None, 0.23916),
        (DEIS, {**A, "solver_order": 2, **V}, None, 0.091),
    ],
)
def test_full_loop(
    scheduler: str, options: Mapping[str, Any], total: float | None, mean: float
) -> None:
    final = oracle_loop(schedule_of(scheduler, options), dummy_sample())
    assert_sum_and_mean(final, total, mean)


@pytest.mark.parametrize(
    "scheduler, options, start, total, mean",
    [
        (MULTI, D_MULTI, 5, 318.4111, 0.4146),
        (SINGLE, D, 5, 269.2187, 0.3505),
        (UNIPC, UNIPC_BASE, 8, 315.5757, 0.4109),
        (DEIS, {**A, "solver_order": 2}, 8, 315.3016, 0.41054),
    ],
)
def test_full_loop_from_a_noised_image(
    scheduler: str, options: Mapping[str, Any], start: int, total: float, mean: float
) -> None:
    schedule = schedule_of(scheduler, options)
    x = schedule.add_noise(dummy_sample(), dummy_noise(), start)
    assert_sum_and_mean(oracle_loop(schedule, x, start), total, mean)


def test_singlestep_starts_inside_a_block() -> None:
    final = oracle_loop(schedule_of(SINGLE, D, 50), dummy_sample(), 3)
    assert_sum_and_mean(final, None, 0.2574)


@pytest.mark.parametrize(
    "options, mean",
    [({}, 0.2441), (KARRAS, 0.2898), (V, 0.1014), ({**V, **KARRAS}, 0.1944)],
)
def test_unipc_in_one_dimension(options: Mapping[str, Any], mean: float) -> None:
    final = oracle_loop(schedule_of(UNIPC, {**UNIPC_BASE, **options}), flat(np.arange(96)))
    assert_sum_and_mean(final, None, mean)


def test_unipc_in_one_dimension_from_a_noised_image() -> None:
    schedule = schedule_of(UNIPC, UNIPC_BASE)
    x = schedule.add_noise(flat(np.arange(96)), flat(np.arange(96)[::-1]), 8)
    assert_sum_and_mean(oracle_loop(schedule, x, 8), 39.0870, 0.4072)


def flat(values: np.ndarray) -> np.ndarray:
    """Diffusers' one-dimensional samples, (4, 3, 8)."""
    return (values.reshape(3, 8, 4) / 96).astype(np.float32).transpose(2, 0, 1)


def test_the_solvers_agree_after_being_switched() -> None:
    """The same configuration through every class and back: diffusers' test_switch."""
    config = SamplerConfig(MULTI, D_MULTI)
    for scheduler in (SINGLE, UNIPC, DEIS, MULTI):
        config = config.renamed(scheduler)
    assert_sum_and_mean(oracle_loop(config.schedule(10), dummy_sample()), 253.5514, 0.3301)


@pytest.mark.parametrize("algorithm", ["sde-dpmsolver", "sde-dpmsolver++"])
def test_custom_timesteps_of_a_default_run_repeat_it(algorithm: str) -> None:
    options = {**D_MULTI, "algorithm_type": algorithm}
    schedule = schedule_of(MULTI, options, 25)
    custom = SamplerConfig(MULTI, options).schedule(timesteps=schedule.timesteps.tolist())
    np.testing.assert_array_equal(custom.sigmas, schedule.sigmas)
    np.testing.assert_array_equal(
        oracle_loop(custom, dummy_sample()), oracle_loop(schedule, dummy_sample())
    )


@pytest.mark.parametrize(
    "scheduler, order", [(MULTI, 2), (MULTI, 3), (SINGLE, 2), (SINGLE, 3), (UNIPC, 3), (DEIS, 2)]
)
def test_as_many_steps_as_the_model_was_trained_on(scheduler: str, order: int) -> None:
    """One timestep comes twice, which gives NaN in diffusers' latents; not in ours."""
    schedule = schedule_of(scheduler, {"solver_order": order}, 1000)
    assert len(schedule.timesteps) == 1000 and len(set(schedule.timesteps)) == 999
    few = oracle_loop(schedule_of(scheduler, {"solver_order": order}, 100), dummy_sample())
    many = oracle_loop(schedule, dummy_sample())
    assert np.isfinite(many).all()
    assert np.abs(many).mean() == pytest.approx(np.abs(few).mean(), rel=0.1)


def test_unipc_flow_and_karras_sigmas() -> None:
    schedule = schedule_of(
        UNIPC,
        {"sigma_min": 0.01, "sigma_max": 200.0, "use_flow_sigmas": True, "use_karras_sigmas": True},
        5,
    )
    sigmas = [
        0.9950248599052429,
        0.9787454605102539,
        0.8774884343147278,
        0.3604971766471863,
        0.009900986216962337,
        0.0,
    ]
    assert schedule.sigmas is not None
    np.testing.assert_allclose(schedule.sigmas, sigmas, atol=1e-6)
    assert schedule.timesteps.tolist() == [int(sigma * 1000) for sigma in sigmas[:-1]]


def test_the_noisiest_timesteps_are_clipped_by_lambda() -> None:
    cosine = {"beta_schedule": "squaredcos_cap_v2"}
    assert schedule_of(MULTI, cosine).timesteps[0] == 999
    assert schedule_of(MULTI, {**cosine, "lambda_min_clipped": -5.1}).timesteps[0] < 999


def test_a_learned_variance_is_cut_from_the_prediction() -> None:
    """A model that predicts six channels for three equals its first three."""
    learned = schedule_of(MULTI, {"variance_type": "learned_range"}, 3)
    plain = schedule_of(MULTI, {}, 3)
    x = dummy_sample()

    def final(schedule: Schedule, extra: int) -> np.ndarray:
        sampler = schedule.run(x, lambda: np.zeros_like(x))
        event = next(sampler)
        while True:
            if isinstance(event, Call):
                variance = np.full((4, extra, 8, 8), 9.0, np.float32)
                answer = np.concatenate([np.tanh(event.sample), variance], axis=1)
            else:
                answer = event.latents
            try:
                event = sampler.send(answer)
            except StopIteration as finished:
                return np.asarray(finished.value)

    np.testing.assert_array_equal(final(learned, 3), final(plain, 0))


@pytest.mark.parametrize("scheduler", [MULTI, SINGLE])
def test_noise_is_drawn_once_a_step_and_only_by_the_sde(scheduler: str) -> None:
    x = dummy_sample()
    for algorithm, draws in [("dpmsolver++", 0), ("sde-dpmsolver++", 6)]:
        drawn: list[int] = []

        def noise(drawn: list[int] = drawn) -> np.ndarray:
            drawn.append(1)
            return np.zeros_like(x)

        schedule = schedule_of(scheduler, {"algorithm_type": algorithm}, 6)
        for_each_call(schedule, x, noise)
        assert len(drawn) == draws


def for_each_call(schedule: Schedule, x: np.ndarray, noise: Any) -> None:
    sampler = schedule.run(x, noise)
    event = next(sampler)
    try:
        while True:
            event = sampler.send(event.sample if isinstance(event, Call) else event.latents)
    except StopIteration:
        return


@pytest.mark.parametrize("scheduler", [MULTI, SINGLE, UNIPC, DEIS])
def test_the_sampler_continues_with_the_latents_sent_back(scheduler: str) -> None:
    """Inpainting blends between steps: the next call must see the blend."""
    schedule = schedule_of(scheduler, {}, 4)
    x = dummy_sample()
    sampler = schedule.run(x, lambda: x)
    assert isinstance(next(sampler), Call)
    update = sampler.send(np.zeros_like(x))
    assert isinstance(update, Update) and update.index == 0
    call = sampler.send(np.full_like(x, 0.25))
    assert isinstance(call, Call) and (call.sample == 0.25).all()


DPM_1 = {"algorithm_type": "dpmsolver", "final_sigmas_type": "sigma_min"}


@pytest.mark.parametrize(
    "scheduler, options, more, message",
    [
        (
            MULTI,
            {"algorithm_type": "dpmsolver"},
            {},
            "final_sigmas_type 'zero' cannot be combined with .*",
        ),
        (
            MULTI,
            {**DPM_1, "prediction_type": "flow_prediction"},
            {},
            "prediction_type 'flow_prediction' cannot be combined with algorithm_type .*",
        ),
        (
            MULTI,
            {**DPM_1, "algorithm_type": "sde-dpmsolver", "solver_order": 3},
            {},
            "algorithm_type 'sde-dpmsolver' has no solver_order 3: use 2",
        ),
        (
            SINGLE,
            {**DPM_1, "algorithm_type": "sde-dpmsolver"},
            {},
            "algorithm_type 'sde-dpmsolver' has no singlestep solver: use 'sde-dpmsolver\\+\\+'",
        ),
        (
            MULTI,
            {"use_flow_sigmas": True, "use_karras_sigmas": True},
            {},
            "use_flow_sigmas needs sigmas below 1, got 157.4: set use_karras_sigmas .*",
        ),
        (
            DEIS,
            {"prediction_type": "flow_prediction"},
            {},
            "prediction_type 'flow_prediction' cannot be combined with use_flow_sigmas=false: .*",
        ),
        (
            DEIS,
            {"prediction_type": "v_prediction", "use_flow_sigmas": True},
            {},
            "prediction_type 'v_prediction' cannot be combined with use_flow_sigmas=true: .*",
        ),
        (
            UNIPC,
            {"predict_x0": False},
            {},
            "final_sigmas_type 'zero' cannot be combined with predict_x0=.*",
        ),
        (
            UNIPC,
            {"lower_order_final": False},
            {},
            "lower_order_final=false cannot be combined with final_sigmas_type 'zero': .*",
        ),
        (UNIPC, {"shift_terminal": 0.1}, {}, "shift_terminal needs use_flow_sigmas=true, .*"),
        (UNIPC, {}, {"sigmas": [0.9, 0.5]}, "sigmas needs use_flow_sigmas=true, .*"),
        (UNIPC, {"use_dynamic_shifting": True}, {}, "use_dynamic_shifting=true and mu need .*"),
        (MULTI, {}, {"mu": 0.7}, "mu is given, but use_dynamic_shifting=true .* is not set"),
        (
            MULTI,
            {"use_karras_sigmas": True},
            {"timesteps": [900, 500]},
            "timesteps cannot be given together with use_karras_sigmas: give one of them",
        ),
        (
            MULTI,
            {"timestep_spacing": "leading"},
            {"num_inference_steps": 1000},
            "num_inference_steps: got 1000, too many for this schedule, whose noise .*",
        ),
        (MULTI, {}, {"num_inference_steps": 0}, "num_inference_steps: got 0, expected 1 to 1000"),
    ],
)
def test_what_has_no_formula_is_refused(
    scheduler: str, options: Mapping[str, Any], more: Mapping[str, Any], message: str
) -> None:
    steps = {} if {"timesteps", "sigmas"} & more.keys() else {"num_inference_steps": 10}
    with pytest.raises(SamplerError, match=f"^{message}$"):
        SamplerConfig(scheduler, options).schedule(**{**steps, **more})
