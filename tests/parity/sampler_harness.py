"""Any sampler against diffusers' scheduler: same timesteps, sigmas, and latents after every step.

A family adds rows with `cases` and calls `check_case` on each.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from inspect import signature
from itertools import product
from typing import Any

import diffusers.schedulers
import numpy as np
import torch

from sdrt.denoising.noise import TorchNoise
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.protocol import Update
from sdrt.samplers.schedule import Schedule

Model = Callable[[np.ndarray, float], np.ndarray]

SHAPE = (2, 4, 8, 8)
SEED = 3
STABLE_DIFFUSION = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
SIGMAS: tuple[dict[str, Any], ...] = (
    {},
    {"use_karras_sigmas": True},
    {"use_exponential_sigmas": True},
    {"use_beta_sigmas": True},
)
ZERO_SNR = {"rescale_betas_zero_snr": True}


@dataclass(frozen=True)
class Case:
    """One run: a scheduler of diffusers, its options, and the steps that it takes."""

    scheduler: str
    options: Mapping[str, Any]
    steps: int | None = 10
    start: int = 0  # index into timesteps, as img2img
    schedule: Mapping[str, Any] = field(default_factory=dict)  # timesteps, sigmas, eta, ...

    def __str__(self) -> str:
        said = {**self.options, **self.schedule} | ({"start": self.start} if self.start else {})
        said = {name: value for name, value in said.items() if name not in STABLE_DIFFUSION}
        parts = [self.scheduler.removesuffix("Scheduler"), str(self.steps)]
        return "-".join([*parts, *(f"{name}={value}" for name, value in said.items())])


def cases(
    scheduler: str,
    variants: Sequence[Mapping[str, Any]] = ({},),
    *,
    prediction_types: Sequence[str | None] = ("epsilon", "v_prediction", "sample"),
    spacings: Sequence[str | None] = ("linspace", "leading", "trailing"),
    steps: Sequence[int | None] = (10, 25),
    base: Mapping[str, Any] = STABLE_DIFFUSION,
    start: int = 0,
    **schedule: Any,
) -> Iterator[Case]:
    """Every variant × prediction type × spacing × number of steps."""
    for variant, prediction_type, spacing, n in product(
        variants, prediction_types, spacings, steps
    ):
        options = {**base, **variant}
        if prediction_type is not None:
            options["prediction_type"] = prediction_type
        if spacing is not None:
            options["timestep_spacing"] = spacing
        if spacing == "leading":
            options.setdefault("steps_offset", 1)
        yield Case(scheduler, options, n, start, schedule)


def model(sample: np.ndarray, timestep: float) -> np.ndarray:
    """A smooth nonlinear stand-in for the UNet, shared by both sides."""
    t = np.float32(timestep / 1000)
    return np.tanh(sample * (np.float32(0.4) + t)) + np.float32(0.2) * np.sin(2 * sample + t)


def product_of(**values: Sequence[Any]) -> list[dict[str, Any]]:
    """Every combination of the options' values."""
    return [dict(zip(values, row, strict=True)) for row in product(*values.values())]


def check_case(case: Case, model: Model = model) -> None:
    """Timesteps exactly, sigmas to 1e-6, every step's latents to 1e-5.

    The latents' difference is relative to the largest value before or after the step: float32
    cannot do better if a step removes most of the magnitude (LMS at sigma 0).
    """
    theirs, schedule = scheduler_of(case), schedule_of(case)
    assert_same_timesteps(case, schedule.timesteps, theirs.timesteps.numpy())
    if schedule.sigmas is not None:
        np.testing.assert_allclose(schedule.sigmas, theirs.sigmas.numpy(), rtol=1e-6, atol=1e-6)
    init_noise_sigma = float(getattr(theirs, "init_noise_sigma", 1.0))
    np.testing.assert_allclose(schedule.init_noise_sigma, init_noise_sigma, rtol=1e-6)

    x = first_latents(case, schedule)
    expected = their_trajectory(theirs, case, x, model)
    latents = our_trajectory(schedule, case, x, model)
    assert len(latents) == len(expected)
    before = np.abs(x).max()
    for index, (ours, other) in enumerate(zip(latents, expected, strict=True)):
        assert ours.dtype == np.float32
        assert np.isfinite(other).all(), f"diffusers gives NaN at step {index}: not a case"
        after = np.abs(other).max()
        difference = np.abs(ours - other).max() / max(before, after)
        assert difference <= 1e-5, f"step {index} of {len(expected)}: {difference:.1e} apart"
        before = after


def assert_same_timesteps(case: Case, ours: np.ndarray, theirs: np.ndarray) -> None:
    """Asserts that they are equal, or equal to 1e-4 if they are logarithms of sigmas."""
    if "KDPM2" in case.scheduler or "timestep_type" in case.options:
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)
    else:
        np.testing.assert_array_equal(ours, theirs)


def schedule_of(case: Case) -> Schedule:
    """Our schedule, from the configuration that diffusers would have written."""
    config = json.loads(json.dumps({"_class_name": case.scheduler, **case.options}))
    return SamplerConfig.from_diffusers(config).schedule(case.steps, **case.schedule)


def scheduler_of(case: Case) -> Any:
    """Diffusers' scheduler with its timesteps set."""
    scheduler = _scheduler(case.scheduler, json.dumps(case.options))
    accepted = signature(scheduler.set_timesteps).parameters
    custom = {name: case.schedule[name] for name in case.schedule if name in accepted}
    steps = {} if {"timesteps", "sigmas"} & custom.keys() else {"num_inference_steps": case.steps}
    scheduler.set_timesteps(**steps, **custom)
    if case.start and hasattr(scheduler, "set_begin_index"):
        scheduler.set_begin_index(case.start)
    return scheduler


@lru_cache(maxsize=1)
def _scheduler(name: str, options: str) -> Any:
    """Created once for cases that differ in their steps: some take a third of a second."""
    return getattr(diffusers.schedulers, name).from_config(json.loads(options))


def first_latents(case: Case, schedule: Schedule) -> np.ndarray:
    """The start of the run: noise, or a noised image if it starts in the middle."""
    noise = np.random.default_rng(0).standard_normal(SHAPE, np.float32)
    if not case.start:
        return noise * np.float32(schedule.init_noise_sigma)
    return schedule.add_noise(np.full(SHAPE, 0.3, np.float32), noise, case.start)


def their_trajectory(scheduler: Any, case: Case, x: np.ndarray, model: Model) -> list[np.ndarray]:
    """The latents after each of diffusers' steps, as a pipeline takes them."""
    accepted = signature(scheduler.step).parameters
    keywords = {name: case.schedule[name] for name in case.schedule if name in accepted}
    if "generator" in accepted:
        keywords["generator"] = torch.Generator().manual_seed(SEED)
    latents, trajectory = torch.from_numpy(x), []
    for t in scheduler.timesteps[case.start :]:
        shown = latents
        if hasattr(scheduler, "scale_model_input"):
            shown = scheduler.scale_model_input(latents, t)
        prediction = torch.from_numpy(model(shown.numpy(), float(t)))
        latents = scheduler.step(prediction, t, latents, **keywords).prev_sample
        trajectory.append(latents.numpy())
    return trajectory


def our_trajectory(schedule: Schedule, case: Case, x: np.ndarray, model: Model) -> list[np.ndarray]:
    """The latents of each update; asserts that their indices are consecutive."""
    noise = TorchNoise(SEED)
    sampler = schedule.run(x, lambda: noise.normal(x.shape), case.start)
    trajectory: list[np.ndarray] = []
    event = next(sampler)
    while True:
        if isinstance(event, Update):
            assert event.index == case.start + len(trajectory)
            trajectory.append(event.latents)
            answer = event.latents
        else:
            assert event.timestep == schedule.timesteps[case.start + len(trajectory)]
            answer = model(event.sample, event.timestep)
        try:
            event = sampler.send(answer)
        except StopIteration as finished:
            np.testing.assert_array_equal(finished.value, trajectory[-1])
            return trajectory
