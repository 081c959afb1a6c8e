"""Forecasts in the model's place: the image that a call predicts, from those of earlier calls.

The image x0 that the model predicts changes slowly from call to call, so some calls need not run:
their x0 is a weighted sum of the last ones. Each image has its own history, so that an image is the
same alone and in a batch.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import TYPE_CHECKING, Protocol, TypeAlias

import numpy as np

from sdrt.ask import Asks
from sdrt.samplers.protocol import Call
from sdrt_engines import Array

if TYPE_CHECKING:
    from sdrt.samplers.prediction import Level

MEMORY = 6  # predictions that are kept of each image
MIN_KNOWN = 2  # of them, for a forecast
LARGE = 0.25  # the relative error of a forecast that says nothing about those before it
Images: TypeAlias = tuple[int, ...]


@dataclass(frozen=True)
class Method:
    """The weights that a forecast gives to the predictions before it.

    A polynomial fitted to all of them has the weight `share`, a step from the last one the rest.
    The polynomial is a ridge regression on Chebyshev polynomials of the normalised time
    (Spectrum: https://arxiv.org/abs/2603.01623). `slope` is the part of the linear extrapolation
    that the step takes: 0 repeats the last prediction, 1 continues the line through the last two.
    With `is_fitted` each image takes a part of its own, up to `slope`.
    """

    share: float = 0.0
    slope: float = 1.0
    degree: int = 3
    ridge: float = 0.1
    is_fitted: bool = False

    def fitted(self, times: Sequence[float], predictions: Sequence[Array]) -> Method:
        """The method with the slope that would have forecast the last of the predictions best.

        It is 0 where they turn back, and if fewer than three are known.
        """
        if not self.is_fitted:
            return self
        *before, last = predictions
        weights = _of_step(times[:-1], times[-1], slope=1.0)
        line = _weighted(weights, before) - before[-1]
        change = last - before[-1]
        length = _product(line, line)
        slope = _product(change, line) / length if length else 0.0
        return replace(self, slope=min(max(slope, 0.0), self.slope), is_fitted=False)

    def weights(self, times: Sequence[float], t: float) -> Array:
        """The weights (K,) of predictions at `times` for a forecast at t; their sum is 1.

        Times run from 1 at the start of the schedule to -1 at its end.
        """
        weights = (1 - self.share) * _of_step(times, t, self.slope)
        if self.share:
            weights = weights + self.share * _of_polynomial(times, t, self.degree, self.ridge)
        return np.asarray(weights, np.float64)


def _of_step(times: Sequence[float], t: float, slope: float) -> Array:
    """Those of a step along the line through the last two predictions at different times."""
    weights = np.zeros(len(times))
    weights[-1] = 1
    before = next((i for i in reversed(range(len(times))) if times[i] != times[-1]), None)
    if slope and before is not None:
        ratio = slope * (t - times[-1]) / (times[-1] - times[before])
        weights[-1] += ratio
        weights[before] -= ratio
    return weights


def _weighted(weights: Array, predictions: Sequence[Array]) -> Array:
    """The weighted sum of predictions (C, h, w)."""
    total = np.zeros_like(predictions[-1])
    for weight, prediction in zip(weights.tolist(), predictions, strict=True):
        total += prediction * weight
    return total


def _product(a: Array, b: Array) -> float:
    """The inner product, in float64."""
    return float(np.multiply(a, b, dtype=np.float64).sum())


def _norm(array: Array) -> float:
    return sqrt(_product(array, array))


def _of_polynomial(times: Sequence[float], t: float, degree: int, ridge: float) -> Array:
    """Those of a ridge regression that leaves the constant term free."""
    basis, at_t = _chebyshev(np.array(times), degree), _chebyshev(np.array([t]), degree)[0]
    penalty = np.diag([0.0] + [ridge] * degree)
    weights: Array = basis @ np.linalg.solve(basis.T @ basis + penalty, at_t)
    return weights


def _chebyshev(times: Array, degree: int) -> Array:
    """Chebyshev polynomials up to a degree, (K, degree + 1)."""
    angles = np.arccos(times.clip(-1, 1))
    return np.asarray(np.cos(angles[:, None] * np.arange(degree + 1)))


@dataclass(frozen=True)
class ForecastPlan:
    """The calls of one denoiser that the model answers, and the forecasts of the others.

    If a forecast would have missed the model's last answer by more than `tolerance`, relative to
    it, the model answers the next call, too.
    """

    asked: tuple[bool, ...]
    method: Method
    tolerance: float


class Model(Protocol):
    """The model of a stage, as a forecaster asks it."""

    def predict(self, call: Call, number: int, images: Images) -> Asks[Array]:
        """The guided prediction for some images, whose samples are those of the call."""
        ...

    def conditions(self, number: int) -> Sequence[Hashable]:
        """For each image what its prediction depends on in addition to sample and timestep. If it
        changes from one call to the next, predictions do not change smoothly."""
        ...


class Forecaster:
    """Answers a sampler's calls for all images of a stage, with the model or with forecasts.

    `levels` are the noise levels of the stage's calls.
    """

    def __init__(
        self, plan: ForecastPlan, levels: Sequence[Level], num_images: int, model: Model
    ) -> None:
        self._levels, self._model = levels, model
        scale = normalised([level.t for level in levels])
        times = [scale(level.t) for level in levels]
        self._images = [_History(plan, levels, times) for _ in range(num_images)]

    @property
    def num_forecasts(self) -> tuple[int, ...]:
        """The number of calls that were forecast, for each image."""
        return tuple(image.num_forecasts for image in self._images)

    def predict(self, call: Call, number: int) -> Asks[Array]:
        """The prediction (B, C, h, w) for the stage's `number`-th call."""
        conditions = self._model.conditions(number)
        asked = tuple(
            i for i, image in enumerate(self._images) if image.needs_model(number, conditions[i])
        )
        prediction, level = np.empty_like(call.sample), self._levels[number]
        x = call.sample if level.c_in == 1 else call.sample / level.c_in
        if asked:
            part = replace(call, sample=call.sample[list(asked)])
            prediction[list(asked)] = yield from self._model.predict(part, number, asked)
        for i, image in enumerate(self._images):
            if i not in asked:
                prediction[i] = level.prediction(x[i], image.forecast(number))
                continue
            x0 = level.x0(x[i], prediction[i])
            moved = image.learn(number, x0, conditions[i])
            if moved is not x0:
                prediction[i] = level.prediction(x[i], moved)
        return prediction


class _History:
    """The last predictions of one image under the same conditions."""

    def __init__(self, plan: ForecastPlan, levels: Sequence[Level], times: Sequence[float]) -> None:
        self._plan, self._levels, self._all_times = plan, levels, times
        self._times = deque[float](maxlen=MEMORY)
        self._x0 = deque[Array](maxlen=MEMORY)
        self._conditions: Hashable = None
        self._last = 0  # call that the model answered
        self._is_trusted = True  # the last forecast that could be checked was right
        self.num_forecasts = 0

    def needs_model(self, number: int, conditions: Hashable) -> bool:
        """True if the plan, a change or a wrong forecast requires the model."""
        is_known = conditions == self._conditions and len(self._x0) >= MIN_KNOWN
        return self._plan.asked[number] or not (is_known and self._is_trusted)

    def learn(self, number: int, x0: Array, conditions: Hashable) -> Array:
        """Takes the model's prediction, and checks what a forecast of it would have been.

        Returns the x0 for the sampler: the same, or moved against a small error of that forecast,
        so that the next step undoes what the forecasts before it did to the sample.
        """
        moved = x0
        if conditions != self._conditions:
            self._times.clear()
            self._x0.clear()
        if len(self._x0) >= MIN_KNOWN:
            error = self._forecast(number) - x0
            distance, size = _norm(error), _norm(x0)
            self._is_trusted = distance <= self._plan.tolerance * size
            if distance < LARGE * size:
                part = undoing(self._levels, self._last, number) * (1 - distance / (LARGE * size))
                moved = x0 - part * error if part else x0
        self._conditions, self._last = conditions, number
        self._times.append(self._all_times[number])
        self._x0.append(x0)
        return moved

    def forecast(self, number: int) -> Array:
        """The forecast of x0 (C, h, w)."""
        self.num_forecasts += 1
        return self._forecast(number)

    def _forecast(self, number: int) -> Array:
        times, known = [*self._times], [*self._x0]
        method = self._plan.method.fitted(times, known)
        return _weighted(method.weights(times, self._all_times[number]), known)


def undoing(levels: Sequence[Level], before: int, number: int) -> float:
    """The multiple of its forecast's error by which the x0 of call `number` must move back to undo,
    within one step, the effect on the sample of the forecasts since call `before`.

    Their errors grow in proportion to the calls since then. Steps are of first order, as DDIM's;
    where calls share a noise level, as Heun's do, and in the last step, there is nothing to undo.
    """
    if number + 1 == len(levels):
        return 0.0
    effect = 0.0
    for call in range(before + 1, number):
        kept, gained = _step(levels[call], levels[call + 1])
        effect = kept * effect + gained * (call - before) / (number - before)
    kept, gained = _step(levels[number], levels[number + 1])
    return kept * effect / gained if gained else 0.0


def _step(here: Level, there: Level) -> tuple[float, float]:
    """The weights of the sample and of x0 in the sample at the next noise level."""
    kept = there.sigma / here.sigma
    return kept, there.alpha - kept * here.alpha


def normalised(times: Sequence[float]) -> Callable[[float], float]:
    """A function from the times of a schedule to 1 at its start and -1 at its end, in equal steps.

    Schedules space their steps so that images change about evenly from step to step. In timesteps
    the first of Karras' lie so near to each other that a line through two would miss the rest.
    """
    ranks = {t: rank for rank, t in enumerate(sorted(set(times)))}
    last = max(len(ranks) - 1, 1)
    return lambda t: 2 * ranks[t] / last - 1
