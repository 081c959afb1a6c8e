"""The expected values of diffusers' own scheduler tests.

Sums and means of |x| after full loops, schedules and small values, at diffusers' tolerances. The
solvers' rows are in test_solvers.py.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from runtime.samplers.oracle import (
    A,
    B,
    C,
    assert_sum_and_mean,
    dummy_noise,
    dummy_sample,
    oracle_loop,
)
from sdrt.errors import SamplerError
from sdrt.samplers.config import SamplerConfig

V = {"prediction_type": "v_prediction"}
KARRAS = {"use_karras_sigmas": True}
FIXED_SMALL = {"variance_type": "fixed_small", "clip_sample": True}


def final_sample(
    scheduler: str, options: dict[str, Any], steps: int = 10, start: int | None = None
) -> np.ndarray:
    """The end of the loop from pure noise, or from the noised sample at `timesteps[start]`."""
    schedule = SamplerConfig(scheduler, options).schedule(steps)
    x = dummy_sample() * np.float32(schedule.init_noise_sigma)
    if start is not None:
        x = schedule.add_noise(x, dummy_noise(), start)
    return oracle_loop(schedule, x, start or 0, scaled_to_step=schedule.sigmas is not None)


@pytest.mark.parametrize(
    ("options", "start", "total", "mean"),
    [
        ({**A, "clip_sample": True}, None, 172.0067, 0.223967),
        ({**A, **V}, None, 52.5302, 0.0684),
        ({**A, "set_alpha_to_one": True, "beta_start": 0.01}, None, 149.8295, 0.1951),
        ({**A, "set_alpha_to_one": False, "beta_start": 0.01}, None, 149.0784, 0.1941),
        (A, 8, 354.5418, 0.4616),
    ],
)
def test_ddim(options: dict[str, Any], start: int | None, total: float, mean: float) -> None:
    assert_sum_and_mean(final_sample("DDIMScheduler", options, start=start), total, mean)


@pytest.mark.parametrize(
    ("options", "total", "mean"),
    [
        (A, 198.1318, 0.2580),
        ({**A, **V}, 67.3986, 0.0878),
        ({**A, "set_alpha_to_one": True, "beta_start": 0.01}, 230.0399, 0.2995),
        ({**A, "set_alpha_to_one": False, "beta_start": 0.01}, 186.9482, 0.2434),
    ],
)
def test_pndm(options: dict[str, Any], total: float, mean: float) -> None:
    assert_sum_and_mean(final_sample("PNDMScheduler", options), total, mean)


@pytest.mark.parametrize(
    ("options", "start", "total", "mean", "total_tolerance"),
    [
        (B, None, 1006.388, 1.31, 1e-2),
        ({**B, **V}, None, 0.0017, 2.2676e-06, 1e-2),
        ({**B, **KARRAS}, None, 3812.9927, 4.9648, 2e-2),
        (B, 8, 27663.6895, 36.0204, 1e-2),
    ],
)
def test_lms(
    options: dict[str, Any], start: int | None, total: float, mean: float, total_tolerance: float
) -> None:
    x = final_sample("LMSDiscreteScheduler", options, start=start)
    assert_sum_and_mean(x, total, mean, total_tolerance=total_tolerance)


@pytest.mark.parametrize(
    ("options", "start", "total", "mean"),
    [
        (B, None, 10.0807, 0.0131),
        ({**B, **V}, None, 0.0002, 2.2676e-06),
        ({**B, **KARRAS}, None, 124.52299499511719, 0.16213932633399963),
        (B, 8, 57062.9297, 74.3007),
    ],
)
def test_euler(options: dict[str, Any], start: int | None, total: float, mean: float) -> None:
    assert_sum_and_mean(final_sample("EulerDiscreteScheduler", options, start=start), total, mean)


@pytest.mark.parametrize(
    ("options", "start", "total", "mean", "mean_tolerance"),
    [
        (B, None, 0.1233, 0.0002, 1e-3),
        ({**B, **V}, None, 4.6934e-07, 6.1112e-10, 1e-3),
        ({**B, **KARRAS}, None, 0.00015, 1.9869554535e-07, 1e-2),
        (B, 16, 75074.8906, 97.7538, 1e-3),
    ],
)
def test_heun(
    options: dict[str, Any], start: int | None, total: float, mean: float, mean_tolerance: float
) -> None:
    x = final_sample("HeunDiscreteScheduler", options, start=start)
    assert_sum_and_mean(x, total, mean, mean_tolerance=mean_tolerance)


@pytest.mark.parametrize(
    ("options", "start", "total", "mean"),
    [(B, None, 20.4125, 0.0266), (B, 16, 70408.4062, 91.6776)],
)
def test_kdpm2(options: dict[str, Any], start: int | None, total: float, mean: float) -> None:
    assert_sum_and_mean(final_sample("KDPM2DiscreteScheduler", options, start=start), total, mean)


@pytest.mark.parametrize(("steps", "total", "mean"), [(1, 29.8715, 0.0389), (10, 181.2040, 0.2359)])
def test_tcd(steps: int, total: float, mean: float) -> None:
    x = final_sample("TCDScheduler", C, steps)
    assert_sum_and_mean(x, total, mean, total_tolerance=1e-3)


@pytest.mark.parametrize(("steps", "total", "mean"), [(1, 18.7097, 0.0244), (10, 197.7616, 0.2575)])
def test_lcm(steps: int, total: float, mean: float) -> None:
    x = final_sample("LCMScheduler", C, steps)
    assert_sum_and_mean(x, total, mean, total_tolerance=1e-3)


@pytest.mark.parametrize(
    ("options", "start", "total", "mean"),
    [
        (B, None, 152.3192, 0.1983),
        ({**B, **V}, None, 108.4439, 0.1412),
        (B, 8, 56163.0508, 73.1290),
    ],
)
def test_euler_ancestral(
    options: dict[str, Any], start: int | None, total: float, mean: float
) -> None:
    x = final_sample("EulerAncestralDiscreteScheduler", options, start=start)
    assert_sum_and_mean(x, total, mean)


@pytest.mark.parametrize(
    ("options", "start", "total", "mean", "mean_tolerance"),
    [
        (B, None, 13979.9433, 18.2030, 5e-3),
        ({**B, **V}, None, 331.8133, 0.4320, 1e-3),
        (B, 16, 93087.3437, 121.2074, 5e-3),
    ],
)
def test_kdpm2_ancestral(
    options: dict[str, Any], start: int | None, total: float, mean: float, mean_tolerance: float
) -> None:
    x = final_sample("KDPM2AncestralDiscreteScheduler", options, start=start)
    assert_sum_and_mean(x, total, mean, mean_tolerance=mean_tolerance)


@pytest.mark.parametrize(
    ("options", "start", "total", "mean"),
    [
        ({**A, **FIXED_SMALL}, None, 258.9606, 0.3372),
        ({**A, **FIXED_SMALL, **V}, None, 202.0296, 0.2631),
        ({**A, **FIXED_SMALL}, 998, 387.9466, 0.5051),
    ],
)
def test_ddpm(options: dict[str, Any], start: int | None, total: float, mean: float) -> None:
    x = final_sample("DDPMScheduler", options, 1000, start)
    assert_sum_and_mean(x, total, mean)


@pytest.mark.parametrize(
    ("scheduler", "shift", "calls", "total", "mean"),
    [
        ("FlowMatchEulerDiscreteScheduler", 1.0, 10, 133.36205, 0.173648),
        ("FlowMatchEulerDiscreteScheduler", 3.0, 10, 129.34946, 0.168424),
        ("FlowMatchHeunDiscreteScheduler", 1.0, 19, 145.76549, 0.189799),
        ("FlowMatchHeunDiscreteScheduler", 3.0, 19, 144.15938, 0.187708),
    ],
)
def test_flow_match(scheduler: str, shift: float, calls: int, total: float, mean: float) -> None:
    schedule = SamplerConfig(scheduler, {"shift": shift}).schedule(10)
    assert len(schedule.timesteps) == calls
    assert_sum_and_mean(oracle_loop(schedule, dummy_sample()), total, mean)


# Schedules and small values


@pytest.mark.parametrize(
    ("shift", "sigmas"),
    [
        (1.0, [1.0, 0.889, 0.778, 0.667, 0.556, 0.445, 0.334, 0.223, 0.112, 0.001, 0.0]),
        (
            3.0,
            [
                1.0,
                0.9601293,
                0.913349,
                0.8576923,
                0.7903683,
                0.7072785,
                0.6021506,
                0.464876,
                0.2780488,
                0.0089286,
                0.0,
            ],
        ),
    ],
)
def test_flow_match_sigmas_are_shifted_twice_at_their_low_end(
    shift: float, sigmas: list[float]
) -> None:
    schedule = SamplerConfig("FlowMatchEulerDiscreteScheduler", {"shift": shift}).schedule(10)
    assert schedule.sigmas is not None
    np.testing.assert_allclose(schedule.sigmas, sigmas, atol=1e-6)


def test_flow_match_heun_asks_twice_at_all_timesteps_but_the_first() -> None:
    schedule = SamplerConfig("FlowMatchHeunDiscreteScheduler").schedule(10)
    np.testing.assert_allclose(schedule.timesteps[:5], [1000, 889, 889, 778, 778], atol=1e-3)
    np.testing.assert_allclose(schedule.timesteps[-2:], [1, 1], atol=1e-3)


def test_ddim_with_steps_offset() -> None:
    schedule = SamplerConfig("DDIMScheduler", {**A, "steps_offset": 1}).schedule(5)
    assert schedule.timesteps.tolist() == [801, 601, 401, 201, 1]


@pytest.mark.parametrize(
    ("steps", "t", "expected"),
    [
        (50, 0, 0.0),
        (50, 420, 0.14771),
        (50, 980, 0.32460),
        (1000, 487, 0.00979),
        (1000, 999, 0.02),
    ],
)
def test_ddim_variance(steps: int, t: int, expected: float) -> None:
    """`_get_variance(t, t - 1000 // steps)` is the square of the noise's weight at eta 1."""
    schedule = SamplerConfig("DDIMScheduler", A).schedule(steps, eta=1.0)
    step = next(step for step in schedule.steps if step.here.t == t)
    assert step.std**2 == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("t", "expected"), [(0, 0.0), (487, 0.00979), (999, 0.02)])
def test_ddpm_variance(t: int, expected: float) -> None:
    schedule = SamplerConfig("DDPMScheduler", A).schedule(1000)
    step = next(step for step in schedule.steps if step.here.t == t)
    assert step.small == pytest.approx(expected, abs=1e-5)


def test_pndm_with_steps_offset() -> None:
    schedule = SamplerConfig("PNDMScheduler", {**A, "steps_offset": 1}).schedule(10)
    runge_kutta = [901, 851, 851, 801, 801, 751, 751, 701, 701, 651, 651, 601]
    assert schedule.timesteps.tolist() == [*runge_kutta, 601, 501, 401, 301, 201, 101, 1]


def test_pndm_takes_a_power_of_three_steps() -> None:
    assert np.isfinite(final_sample("PNDMScheduler", A, 27)).all()


CUSTOM = ("DDPMScheduler", "LCMScheduler", "TCDScheduler")


@pytest.mark.parametrize("scheduler", CUSTOM)
def test_custom_timesteps_are_taken_as_they_are(scheduler: str) -> None:
    schedule = SamplerConfig(scheduler).schedule(timesteps=[100, 87, 50, 1, 0])
    assert schedule.timesteps.tolist() == [100, 87, 50, 1, 0]
    assert [level.t for level in schedule.calls] == [100, 87, 50, 1, 0]


@pytest.mark.parametrize("scheduler", CUSTOM)
@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"timesteps": [100, 87, 50, 51, 0]}, "expected a descending list"),
        ({"timesteps": [100, 87], "num_inference_steps": 3}, "give one of them"),
        ({"timesteps": [1000, 87]}, "expected it above 0 and 999 at most"),
    ],
)
def test_impossible_custom_timesteps(scheduler: str, given: dict[str, Any], message: str) -> None:
    with pytest.raises(SamplerError, match=message):
        SamplerConfig(scheduler).schedule(**given)


@pytest.mark.parametrize("prediction_type", ["epsilon", "v_prediction", "sample"])
@pytest.mark.parametrize("final_sigmas_type", ["zero", "sigma_min"])
def test_euler_s_own_schedule_given_back_is_the_same_run(
    prediction_type: str, final_sigmas_type: str
) -> None:
    options = {**B, "prediction_type": prediction_type, "final_sigmas_type": final_sigmas_type}
    config = SamplerConfig("EulerDiscreteScheduler", options)
    default = config.schedule(10)
    assert default.sigmas is not None
    for custom in (
        config.schedule(timesteps=default.timesteps.tolist()),
        config.schedule(sigmas=default.sigmas.tolist()),
    ):
        x = dummy_sample() * np.float32(default.init_noise_sigma)
        expected, ours = oracle_loop(default, x), oracle_loop(custom, x)
        assert np.abs(ours - expected).sum() < 1e-5 * np.abs(expected).sum()


def test_euler_s_log_linear_schedule_given_back_is_the_same_run() -> None:
    config = SamplerConfig("EulerDiscreteScheduler", {**B, "interpolation_type": "log_linear"})
    default = config.schedule(10)
    custom = config.schedule(timesteps=default.timesteps.tolist())
    assert custom.sigmas is not None and default.sigmas is not None
    np.testing.assert_allclose(custom.sigmas, default.sigmas, rtol=1e-6)


def test_heun_s_own_timesteps_given_back_are_the_same_run() -> None:
    config = SamplerConfig("HeunDiscreteScheduler", B)
    default = config.schedule(10)
    t = default.timesteps
    custom = config.schedule(timesteps=np.concatenate([t[:1], t[1::2]]).tolist())
    np.testing.assert_array_equal(custom.timesteps, t)
    assert custom.sigmas is not None and default.sigmas is not None
    np.testing.assert_allclose(custom.sigmas, default.sigmas, rtol=1e-6)
