"""The fixtures of diffusers' own scheduler tests (`SchedulerCommonTest`), in numpy."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.denoising.noise import TorchNoise
from sdrt.samplers.protocol import Call
from sdrt.samplers.schedule import Schedule

SHAPE = (4, 3, 8, 8)

# Base configurations of the oracles' rows
A = {"num_train_timesteps": 1000, "beta_start": 1e-4, "beta_end": 0.02, "beta_schedule": "linear"}
B = {**A, "num_train_timesteps": 1100}
C = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}


def dummy_sample() -> np.ndarray:
    """Rising values in 0..1, (4, 3, 8, 8)."""
    return _laid_out(np.arange(768))


def dummy_noise() -> np.ndarray:
    """The same, falling."""
    return _laid_out(np.arange(768)[::-1])


def dummy_model(sample: np.ndarray, timestep: float) -> np.ndarray:
    """`x * t / (t + 1)`."""
    t = np.float32(timestep)
    return sample * (t / (t + 1))


def oracle_loop(
    schedule: Schedule,
    x: np.ndarray,
    start: int = 0,
    *,
    scaled_to_step: bool = False,
    seed: int = 0,
) -> np.ndarray:
    """The final sample from `timesteps[start]` on.

    Diffusers' tests of sigma-space schedulers pass the *scaled* sample to `step()`, which no
    pipeline does:

        sample = scheduler.scale_model_input(sample, t)
        sample = scheduler.step(model(sample, t), t, sample)

    `scaled_to_step` does the same: the latents of each step are scaled before they are passed to
    the sampler, and the model gets the same sample, not one scaled twice.
    """

    def scaled(x: np.ndarray, index: int) -> np.ndarray:
        return (
            schedule.calls[index].scale(x) if scaled_to_step and index < len(schedule.calls) else x
        )

    noise = TorchNoise(seed)
    x = scaled(x, start)
    sampler = schedule.run(x, lambda: noise.normal(x.shape), start)
    event = next(sampler)
    while True:
        if isinstance(event, Call):
            answer = dummy_model(x if scaled_to_step else event.sample, event.timestep)
        else:
            answer = x = scaled(event.latents, event.index + 1)
        try:
            event = sampler.send(answer)
        except StopIteration as finished:
            return np.asarray(finished.value)


def assert_sum_and_mean(
    x: np.ndarray,
    total: float | None,
    mean: float,
    *,
    total_tolerance: float = 1e-2,
    mean_tolerance: float = 1e-3,
) -> None:
    """Asserts that the sum and mean of |x| equal the oracle's, within its tolerances."""
    assert x.dtype == np.float32
    if total is not None:
        assert float(np.abs(x).sum()) == pytest.approx(total, abs=total_tolerance)
    assert float(np.abs(x).mean()) == pytest.approx(mean, abs=mean_tolerance)


def _laid_out(values: np.ndarray) -> np.ndarray:
    return (values.reshape(3, 8, 8, 4) / 768).astype(np.float32).transpose(3, 0, 1, 2)
