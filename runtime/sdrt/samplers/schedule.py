"""A schedule: the timesteps and noise levels of a run, and its sampler."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sdrt.errors import SamplerError, quoted
from sdrt.samplers.prediction import Level
from sdrt.samplers.protocol import Noise, Sampler, Update
from sdrt_engines import Array

SamplerFn: TypeAlias = Callable[[Array, Sequence[Any], Noise], Sampler]


@dataclass(frozen=True)
class ScheduleRequest:
    """The steps of a schedule: their number, or the timesteps or sigmas themselves."""

    num_inference_steps: int | None = None
    timesteps: tuple[float, ...] | None = None
    sigmas: tuple[float, ...] | None = None
    eta: float = 0.0  # the share of fresh noise (DDIM, TCD)
    use_clipped_model_output: bool = False  # DDIM
    mu: float | None = None  # for use_dynamic_shifting
    strength: float = 1.0  # below 1: all steps are spaced over the lower timesteps (LCM)

    def __post_init__(self) -> None:
        given = [name for name in ("timesteps", "sigmas") if getattr(self, name) is not None]
        if len(given) == 2:
            raise SamplerError("timesteps and sigmas are both given: give one of them")
        if not given and self.num_inference_steps is None:
            raise SamplerError("num_inference_steps is missing: give it, or timesteps, or sigmas")
        for name in given:
            self._check_custom(name, getattr(self, name))
        if not 0 <= self.eta <= 1:
            raise SamplerError(f"eta: got {self.eta}, expected 0 to 1")

    @property
    def custom(self) -> bool:
        """True if timesteps or sigmas are given, not only their number."""
        return self.timesteps is not None or self.sigmas is not None

    def _check_custom(self, name: str, values: tuple[float, ...]) -> None:
        if not values:
            raise SamplerError(f"{name}: got an empty list, expected at least one value")
        if self.num_inference_steps is not None and self.num_inference_steps != len(values):
            raise SamplerError(
                f"num_inference_steps: got {self.num_inference_steps} together with "
                f"{len(values)} {name}: give one of them"
            )
        if not all(np.isfinite(value) and value >= 0 for value in values):
            raise SamplerError(
                f"{name}: got {quoted(list(values))}, expected finite values of at least 0"
            )


def require_descending(name: str, values: Sequence[float]) -> None:
    """SamplerError unless each value is below the one before it, also in float32."""
    if not (np.diff(np.asarray(values, np.float32)) < 0).all():
        raise SamplerError(f"{name}: got {quoted(list(values))}, expected a descending list")


@dataclass(frozen=True)
class Schedule:
    """A schedule with its sampler. `timesteps` has one entry for each call of the model.

    A sampler iterates over `steps`, each with `calls_per_step` calls (diffusers'
    `scheduler.order`); `calls` is the noise level of each call, `added` the one that `add_noise`
    applies at each timestep. They differ only if a solver evaluates between two levels (KDPM2).
    """

    timesteps: Array  # (num_calls,) int64 or float32, diffusers' scheduler.timesteps
    sigmas: Array | None  # diffusers' scheduler.sigmas
    init_noise_sigma: float
    calls: tuple[Level, ...]
    steps: Sequence[Any]
    sampler: SamplerFn
    calls_per_step: int = 1
    added: tuple[Level, ...] = ()

    def run(self, x: Array, noise: Noise, start: int = 0, stop: int | None = None) -> Sampler:
        """Samples from `timesteps[start]`, with `x` (B, C, h, w) at that noise level, to the end.

        With `stop`, it ends before the call at `timesteps[stop]`, as diffusers' `denoising_end`
        does: maybe in the middle of a step. `noise` gives standard normals of x's shape; it is
        called in the order of diffusers. Raises `SamplerError` if no step begins at `start`, or if
        no call is left.
        """
        sampler = self.sampler(x, self.steps[self._step_at(start) :], noise)
        if stop is None or stop == len(self.timesteps):
            return sampler
        if not start < stop < len(self.timesteps):
            raise SamplerError(f"stop: got {stop}, expected {start + 1} to {len(self.timesteps)}")
        return _until(sampler, stop)

    def require_start(self, start: int) -> None:
        """SamplerError if the sampler cannot start at `timesteps[start]`."""
        nothing = np.empty(0, np.float32)
        self.run(nothing, lambda: nothing, start)  # which makes a sampler, but does not begin it

    def _step_at(self, start: int) -> int:
        """The number of the step that begins at `timesteps[start]`."""
        each = self.calls_per_step
        last = (len(self.steps) - 1) * each
        if not 0 <= start <= last or start % each:
            multiple = f", a multiple of {each}" if each > 1 else ""
            raise SamplerError(f"start: got {start}, expected 0 to {last}{multiple}")
        return start // each

    def add_noise(self, x0: Array, noise: Array, index: int) -> Array:
        """`x0` with the noise of `timesteps[index]`: diffusers' `add_noise` for img2img."""
        level = (self.added or self.calls)[index]
        noised: Array = x0 * level.alpha + noise * level.sigma
        return noised

    def denoised(self, sample: Array, prediction: Array, index: int) -> Array:
        """The image that the prediction at `timesteps[index]` implies for its call's `sample`."""
        level = self.calls[index]
        return level.x0(sample / level.c_in, prediction)


def _until(sampler: Sampler, stop: int) -> Sampler:
    """The sampler, ended before the call at `timesteps[stop]`."""
    event = next(sampler)
    while True:
        answer = yield event
        if isinstance(event, Update) and event.index == stop - 1:
            return answer
        event = sampler.send(answer)
