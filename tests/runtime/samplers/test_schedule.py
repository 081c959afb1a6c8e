"""Properties of a schedule other than its trajectory; oracles and live parity check the numbers."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest

from sdrt.denoising.noise import TorchNoise
from sdrt.errors import SamplerError
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.protocol import Call, Sampler, Update, drive
from sdrt.samplers.schedule import Schedule
from sdrt.samplers.schedulers import SCHEDULERS

SHAPE = (2, 4, 8, 8)
X0 = np.random.default_rng(1).uniform(-1, 1, SHAPE).astype(np.float32)
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
ZERO_SNR = {
    **STABLE_DIFFUSION,
    "rescale_betas_zero_snr": True,
    "prediction_type": "v_prediction",
    "timestep_spacing": "trailing",
    "clip_sample": False,
}
WITHOUT_MEMORY: dict[str, dict[str, Any]] = {  # these read nothing from earlier steps
    "DDIMScheduler": {"eta": 0.5},
    "DDPMScheduler": {},
    "EulerDiscreteScheduler": {},
    "EulerAncestralDiscreteScheduler": {},
    "HeunDiscreteScheduler": {},
    "KDPM2DiscreteScheduler": {},
    "KDPM2AncestralDiscreteScheduler": {},
    "LCMScheduler": {},
    "TCDScheduler": {"eta": 0.5},
    "FlowMatchEulerDiscreteScheduler": {},
    "FlowMatchHeunDiscreteScheduler": {},
}


def random_of(shape: tuple[int, ...], seed: int = 0) -> Any:
    noise = TorchNoise(seed)
    return lambda: noise.normal(shape)


def updates(sampler: Sampler) -> list[np.ndarray]:
    """The latents of each update, with a model that depends on its sample."""
    latents: list[np.ndarray] = []
    event = next(sampler)
    while True:
        if isinstance(event, Call):
            answer = np.tanh(event.sample)
        else:
            answer = event.latents
            latents.append(answer)
        try:
            event = sampler.send(answer)
        except StopIteration:
            return latents


def oracle_of(schedule: Schedule, prediction_type: str) -> Any:
    """The model that always predicts X0: with it every sampler must end there."""
    at = {level.t: level for level in schedule.calls}

    def model(sample: np.ndarray, timestep: float) -> np.ndarray:
        level = at[timestep]
        scale = np.hypot(level.alpha, level.sigma)  # 1 for variance-preserving levels
        alpha, sigma = level.alpha / scale, level.sigma / scale
        if "flow" in prediction_type:
            alpha, sigma = level.alpha, level.sigma
        eps = (sample - alpha * X0) / sigma
        prediction = {
            "epsilon": eps,
            "sample": X0,
            "v_prediction": alpha * eps - sigma * X0,
            "flow_prediction": eps - X0,
        }[prediction_type]
        return np.asarray(prediction, np.float32)

    return model


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_model_that_knows_the_image_gets_the_image(scheduler: str) -> None:
    flow = scheduler.startswith("FlowMatch")
    prediction_type = "flow_prediction" if flow else "v_prediction"
    options = {**STABLE_DIFFUSION, "prediction_type": "v_prediction", "clip_sample": False}
    schedule = SamplerConfig(scheduler, options).schedule(20)
    x = random_of(SHAPE)() * np.float32(schedule.init_noise_sigma)
    latents = drive(schedule.run(x, random_of(SHAPE, 1)), oracle_of(schedule, prediction_type))
    assert latents.dtype == np.float32
    # some schedulers stop short of sigma 0, LCM's jump is not quite to the image
    np.testing.assert_allclose(latents, X0, atol=0.12)


@pytest.mark.parametrize("scheduler", [name for name in SCHEDULERS if "FlowMatch" not in name])
def test_zero_terminal_snr_belongs_to_the_model(scheduler: str) -> None:
    """Also if diffusers' class has no rescale_betas_zero_snr: pure noise at the first step."""
    schedule = SamplerConfig(scheduler, ZERO_SNR).schedule(20)
    plain = SamplerConfig(scheduler, {**ZERO_SNR, "rescale_betas_zero_snr": False}).schedule(20)
    first, other = schedule.calls[0], plain.calls[0]
    if scheduler != "PNDMScheduler" and "Singlestep" not in scheduler:
        assert first.alpha / first.sigma < 3e-4 < other.alpha / other.sigma
    x = random_of(SHAPE)() * np.float32(schedule.init_noise_sigma)
    latents = drive(schedule.run(x, random_of(SHAPE, 1)), oracle_of(schedule, "v_prediction"))
    assert np.isfinite(latents).all()
    np.testing.assert_allclose(latents, X0, atol=0.12)


@pytest.mark.parametrize("scheduler", ["DDIMScheduler", "DDPMScheduler", "LCMScheduler"])
def test_epsilon_is_undefined_at_zero_snr(scheduler: str) -> None:
    config = SamplerConfig(scheduler, {**ZERO_SNR, "prediction_type": "epsilon"})
    with pytest.raises(SamplerError, match="'epsilon' does not determine the image"):
        config.schedule(10)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_call_is_followed_by_its_update_and_latents_are_the_driver_s(scheduler: str) -> None:
    schedule = SamplerConfig(scheduler, STABLE_DIFFUSION).schedule(6)
    start = random_of(SHAPE)() * np.float32(schedule.init_noise_sigma)
    sampler = schedule.run(start, random_of(SHAPE, 1))
    event, indices = next(sampler), []
    handed = np.zeros(SHAPE, np.float32)
    while True:
        assert isinstance(event, Call)
        assert event.sample.shape == SHAPE and event.sample.dtype == np.float32
        update = sampler.send(np.full(SHAPE, 0.1, np.float32))
        assert isinstance(update, Update)
        assert update.latents.shape == SHAPE and update.latents.dtype == np.float32
        assert event.timestep == schedule.timesteps[update.index]
        indices.append(update.index)
        handed = np.full(SHAPE, len(indices), np.float32)
        try:
            event = sampler.send(handed)
        except StopIteration as finished:
            assert finished.value is handed  # the driver's last value, unchanged
            break
    assert indices == list(range(len(schedule.timesteps)))


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_sampler_leaves_what_it_is_given_alone(scheduler: str) -> None:
    schedule = SamplerConfig(scheduler, STABLE_DIFFUSION).schedule(6)
    x = random_of(SHAPE)()
    copy, given = x.copy(), []

    def model(sample: np.ndarray, timestep: float) -> np.ndarray:
        prediction: np.ndarray = np.tanh(sample)
        given.append((prediction, prediction.copy()))
        return prediction

    drive(schedule.run(x, random_of(SHAPE)), model)
    np.testing.assert_array_equal(x, copy)
    for prediction, before in given:
        np.testing.assert_array_equal(prediction, before)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_plan_can_be_run_again(scheduler: str) -> None:
    schedule = SamplerConfig(scheduler, STABLE_DIFFUSION).schedule(6)
    x = random_of(SHAPE)()
    first, second = (
        drive(schedule.run(x, random_of(SHAPE, 5)), lambda sample, t: np.tanh(sample))
        for _ in range(2)
    )
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_a_stopped_run_is_the_beginning_of_a_whole_one(scheduler: str) -> None:
    schedule = SamplerConfig(scheduler, STABLE_DIFFUSION).schedule(8)
    x = random_of(SHAPE)() * np.float32(schedule.init_noise_sigma)
    whole = updates(schedule.run(x, random_of(SHAPE, 1)))
    for stop in range(1, len(whole) + 1):
        stopped = updates(schedule.run(x, random_of(SHAPE, 1), stop=stop))
        np.testing.assert_array_equal(stopped, whole[:stop])


@pytest.mark.parametrize("scheduler", WITHOUT_MEMORY)
def test_a_sampler_without_memory_continues_after_a_stop(scheduler: str) -> None:
    """Two parts give bit for bit what one run gives, with the same noise."""
    config = SamplerConfig(scheduler, STABLE_DIFFUSION)
    schedule = config.schedule(6, **WITHOUT_MEMORY[scheduler])
    x = random_of(SHAPE)() * np.float32(schedule.init_noise_sigma)
    whole = updates(schedule.run(x, random_of(SHAPE, 1)))
    for stop in range(schedule.calls_per_step, len(whole), schedule.calls_per_step):
        noise = random_of(SHAPE, 1)
        first = updates(schedule.run(x, noise, stop=stop))
        second = updates(schedule.run(first[-1], noise, stop))
        np.testing.assert_array_equal([*first, *second], whole)


@pytest.mark.parametrize(
    ("scheduler", "start", "message"),
    [
        ("DDIMScheduler", 6, "start: got 6, expected 0 to 5"),
        ("DDIMScheduler", -1, "start: got -1, expected 0 to 5"),
        ("HeunDiscreteScheduler", 3, "start: got 3, expected 0 to 10, a multiple of 2"),
    ],
)
def test_a_start_where_no_step_begins(scheduler: str, start: int, message: str) -> None:
    schedule = SamplerConfig(scheduler, STABLE_DIFFUSION).schedule(6)
    with pytest.raises(SamplerError, match=message):
        schedule.run(X0, random_of(SHAPE), start)


@pytest.mark.parametrize(
    ("scheduler", "start", "stop", "message"),
    [
        ("DDIMScheduler", 0, 0, "stop: got 0, expected 1 to 6"),
        ("DDIMScheduler", 3, 3, "stop: got 3, expected 4 to 6"),
        ("DDIMScheduler", 3, 7, "stop: got 7, expected 4 to 6"),
        ("HeunDiscreteScheduler", 2, 12, "stop: got 12, expected 3 to 11"),
    ],
)
def test_a_stop_that_leaves_no_call(scheduler: str, start: int, stop: int, message: str) -> None:
    schedule = SamplerConfig(scheduler, STABLE_DIFFUSION).schedule(6)
    with pytest.raises(SamplerError, match=message):
        schedule.run(X0, random_of(SHAPE), start, stop)


def test_runge_kutta_starts_at_the_start() -> None:
    schedule = SamplerConfig("PNDMScheduler", STABLE_DIFFUSION).schedule(6)
    with pytest.raises(SamplerError, match=r"starts at .* got 3: choose another scheduler"):
        schedule.run(X0, random_of(SHAPE), 3)


@pytest.mark.parametrize("variance_type", ["learned", "learned_range"])
def test_a_learned_variance_needs_twice_the_channels(variance_type: str) -> None:
    schedule = SamplerConfig("DDPMScheduler", {"variance_type": variance_type}).schedule(6)
    with pytest.raises(SamplerError, match="the model returns 4 channels, expected 8"):
        drive(schedule.run(X0, random_of(SHAPE)), lambda sample, t: sample)


def test_a_schedule_warns_of_nothing() -> None:
    with warnings.catch_warnings(), np.errstate(all="raise"):
        warnings.simplefilter("error")
        for scheduler in SCHEDULERS:
            SamplerConfig(scheduler, STABLE_DIFFUSION).schedule(1 if "PNDM" not in scheduler else 4)
