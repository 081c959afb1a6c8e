"""The weights of forecasts, and which calls the model is asked."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from sdrt.ask import Asks
from sdrt.denoising.forecasting import (
    Forecaster,
    ForecastPlan,
    Images,
    Method,
    normalised,
    undoing,
)
from sdrt.samplers.prediction import Level, flow_levels, sigma_levels, variance_preserving_levels
from sdrt.samplers.protocol import Call
from sdrt_engines import Array

REUSE, LINE, CUBIC = Method(slope=0), Method(), Method(share=1, ridge=1e-9)
ALL = (REUSE, LINE, CUBIC, Method(share=0.5), Method(share=1))
TIMES = [1.0, 0.8, 0.3, 0.1, -0.2]
LEVELS = flow_levels(np.linspace(1000, 100, 10), np.linspace(1, 0.1, 10).astype(np.float32))
ANY = 1e9


# --- weights


@pytest.mark.parametrize("method", ALL)
@pytest.mark.parametrize("times", [TIMES, TIMES[:2], [0.8, 0.8, 0.5, 0.5], [0.4, 0.4]])
def test_a_constant_is_forecast_exactly(method: Method, times: list[float]) -> None:
    weights = method.weights(times, -0.6)
    assert weights.sum() == pytest.approx(1)
    assert abs(weights).max() < 50


@pytest.mark.parametrize(
    ("method", "degree"), [(REUSE, 0), (LINE, 1), (CUBIC, 3), (Method(0.5, ridge=1e-9), 1)]
)
def test_polynomials_are_continued(method: Method, degree: int) -> None:
    coefficients = [0.7, -1.3, 0.4, 2.1][: degree + 1]
    values = np.polynomial.Polynomial(coefficients)(np.array(TIMES))
    expected = np.polynomial.Polynomial(coefficients)(-0.5)
    assert method.weights(TIMES, -0.5) @ values == pytest.approx(expected, abs=1e-5)


def test_a_slope_takes_a_part_of_the_line() -> None:
    np.testing.assert_allclose(
        Method(slope=0.5).weights([1, 0.5], 0), [-0.5, 1.5], err_msg="half of one more step"
    )


@pytest.mark.parametrize(
    ("values", "slope"),
    [([0, 2, 3], 0.5), ([0, 1, 3], 1), ([0, 1, 0.5], 0), ([1, 1, 2], 0), ([0, 1], 0)],
    ids=["slowing", "accelerating", "turning", "from rest", "two known"],
)
def test_a_fitted_slope_would_have_forecast_the_last_prediction_best(
    values: list[float], slope: float
) -> None:
    times = [0.5, 0.25, 0.0][: len(values)]
    predictions = [np.full((4, 3, 3), value, np.float32) for value in values]
    assert Method(is_fitted=True).fitted(times, predictions) == Method(slope=slope)
    assert Method(slope=0.3).fitted(times, predictions) == Method(slope=0.3), "is given"


def test_a_fitted_slope_minimises_the_distance() -> None:
    times, predictions = [1.0, 0.8, 0.8, 0.2], [*np.random.default_rng(1).random((4, 4, 3, 3))]
    predictions[3] += 2 * (predictions[2] - predictions[0])
    found = Method(is_fitted=True, slope=9).fitted(times, predictions)

    def distance(slope: float) -> float:
        weights = Method(slope=slope).weights(times[:3], 0.2)
        return float(np.linalg.norm(np.tensordot(weights, predictions[:3], 1) - predictions[3]))

    assert 0 < found.slope < 9
    assert distance(found.slope) < min(distance(found.slope - 0.01), distance(found.slope + 0.01))


def test_a_ridge_shrinks_all_but_the_mean() -> None:
    stiff = Method(share=1, ridge=1e9)
    np.testing.assert_allclose(stiff.weights(TIMES, -0.5), np.full(5, 0.2), atol=1e-6)


def test_time_counts_steps_however_near_their_timesteps_are() -> None:
    """As those of Karras' first steps; a step with two calls at one timestep counts once."""
    scale = normalised([999, 998, 998, 500, 1])
    np.testing.assert_allclose([scale(t) for t in (999, 998, 500, 1)], [1, 1 / 3, -1 / 3, -1])
    assert normalised([7])(7) == -1


# --- levels


@pytest.mark.parametrize(
    "levels",
    [
        LEVELS,
        *(
            levels_of(np.array([900, 20]), np.array([0.6, 0.01], np.float32), kind)
            for levels_of in (sigma_levels, variance_preserving_levels)
            for kind in ("epsilon", "v_prediction", "sample")
        ),
    ],
)
def test_a_prediction_and_its_image_imply_each_other(levels: Sequence[Level]) -> None:
    rng = np.random.default_rng(0)
    x, x0 = rng.standard_normal((2, 1, 4, 3, 3), np.float32)
    for level in levels:
        np.testing.assert_allclose(level.x0(x, level.prediction(x, x0)), x0, atol=1e-5)


# --- the forecaster


@dataclass
class Function:
    """A model that predicts the image `x0_of(level number, image)`; it records who asks."""

    x0_of: Callable[[int, int], float]
    conditions_of: Callable[[int, int], Hashable] = lambda number, image: None
    asked: list[tuple[int, Images]] = field(default_factory=list)

    def predict(self, call: Call, number: int, images: Images) -> Asks[Array]:
        self.asked.append((number, images))
        level = LEVELS[number]
        x0 = np.stack([np.full_like(call.sample[0], self.x0_of(number, i)) for i in images])
        return level.prediction(call.sample, x0)
        yield

    def conditions(self, number: int) -> list[Hashable]:
        return [self.conditions_of(number, image) for image in range(3)]


def answers(
    plan: ForecastPlan, model: Function, num_images: int = 1
) -> tuple[list[Array], Forecaster]:
    """The x0 (B,) of each call, and the forecaster."""
    forecaster = Forecaster(plan, LEVELS, num_images, model)
    rng, x0 = np.random.default_rng(1), []
    for number, level in enumerate(LEVELS):
        call = Call(rng.standard_normal((num_images, 1, 2, 2), np.float32), level.t)
        predict = forecaster.predict(call, number)
        with pytest.raises(StopIteration) as finished:
            next(predict)
        x0.append(level.x0(call.sample, finished.value.value)[:, 0, 0, 0])
    return x0, forecaster


def plan_of(asked: str, method: Method = LINE, tolerance: float = ANY) -> ForecastPlan:
    return ForecastPlan(tuple(letter == "1" for letter in asked), method, tolerance)


def numbers(model: Function, image: int = 0) -> list[int]:
    """The calls that were asked for an image."""
    return [number for number, images in model.asked if image in images]


def test_the_plan_s_calls_are_asked_and_the_others_forecast() -> None:
    model = Function(lambda number, image: 2 * LEVELS[number].t / 1000 + image)
    x0, forecaster = answers(plan_of("1100101001"), model, 3)
    assert model.asked == [(number, (0, 1, 2)) for number in (0, 1, 4, 6, 9)]
    assert forecaster.num_forecasts == (5, 5, 5)
    expected = [[2 * level.t / 1000 + image for image in range(3)] for level in LEVELS]
    np.testing.assert_allclose(x0, expected, atol=1e-5)


def test_reuse_repeats_the_last_answer() -> None:
    x0, _ = answers(plan_of("1100101001", REUSE), Function(lambda number, image: number))
    np.testing.assert_allclose(np.ravel(x0), [0, 1, 1, 1, 4, 4, 6, 6, 6, 9], atol=1e-5)


def test_a_forecast_that_would_have_been_wrong_asks_again() -> None:
    """The line from calls 0 and 1 misses call 4, so 5 is asked. The line from 1 and 4 misses 5, and
    so on, until the last two are on the line again."""
    model = Function(lambda number, image: float(number < 4) + 1)
    answers(plan_of("1100101001", tolerance=0.1), model)
    assert numbers(model) == [0, 1, 4, 5, 6, 9]


@pytest.mark.parametrize(("drift", "moved"), [(0.02, [4, 6]), (0.6, [])], ids=["small", "large"])
def test_an_answer_is_moved_against_a_small_error_of_its_forecast(
    drift: float, moved: list[int]
) -> None:
    """Calls 4 and 6 follow forecasts, and so does the last, which has no step to undo them."""
    x0, _ = answers(plan_of("1100101001", REUSE), Function(lambda number, _: 1 + drift * number))
    ahead = np.ravel(x0) - [1 + drift * number for number in range(10)]
    assert [number for number in (0, 1, 4, 6, 9) if ahead[number] > 1e-4] == moved


STEPS = np.array([900, 700, 500, 300, 100])
SIGMAS = np.array([0.9, 0.7, 0.5, 0.3, 0.1], np.float32)


@pytest.mark.parametrize(
    "levels",
    [
        flow_levels(STEPS, SIGMAS),
        sigma_levels(STEPS, SIGMAS, "epsilon"),
        variance_preserving_levels(STEPS, SIGMAS, "epsilon"),
    ],
)
def test_a_step_undoes_errors_that_grew_evenly(levels: Sequence[Level]) -> None:
    """DDIM's steps from call 0, where the last forecast would have been off by 0.2."""

    def sample(errors: Sequence[float]) -> float:
        x = 0.5
        for number, error in enumerate(errors):
            x0, (here, there) = 0.3 * number + error, levels[number : number + 2]
            x = there.alpha * x0 + there.sigma * (x - here.alpha * x0) / here.sigma
        return x

    moved = -0.2 * undoing(levels, 0, 3)
    assert sample([0, 0.2 / 3, 0.4 / 3, moved]) == pytest.approx(sample([0, 0, 0, 0]))
    assert moved < 0


def test_without_a_step_of_its_own_a_call_undoes_nothing() -> None:
    shared = flow_levels(STEPS, np.array([0.9, 0.7, 0.5, 0.5, 0.1], np.float32))
    assert undoing(shared, 0, 2) == undoing(shared, 0, 4) == undoing(shared, 2, 3) == 0
    assert undoing(shared, 0, 3) > 0


def test_each_image_is_asked_by_itself() -> None:
    model = Function(lambda number, image: 1 + float(number < 4) * (image == 1))
    _, forecaster = answers(plan_of("1100101001", tolerance=0.1), model, 2)
    assert (5, (1,)) in model.asked
    assert forecaster.num_forecasts == (5, 4)


@pytest.mark.parametrize("number", [2, 3, 5, 7])
def test_after_a_change_two_predictions_are_awaited(number: int) -> None:
    model = Function(
        lambda call, image: 5.0 if call < number else -5.0,
        lambda call, image: call >= number and image == 0,
    )
    answers(plan_of("1100101001"), model, 2)
    expected = {0, 1, 4, 6, 9} | {number, number + 1}
    assert numbers(model) == sorted(expected)
    assert numbers(model, 1) == [0, 1, 4, 6, 9]


def test_conditions_that_change_with_every_call_leave_nothing_to_forecast() -> None:
    model = Function(lambda number, image: number, lambda number, image: number)
    _, forecaster = answers(plan_of("1100101001"), model)
    assert forecaster.num_forecasts == (0,)


def test_only_the_last_predictions_count() -> None:
    """A cubic through all nine would be far away."""
    model = Function(lambda number, image: 1 + float(number < 2))
    x0, _ = answers(plan_of("1111111101", CUBIC), model)
    assert x0[8] == pytest.approx(1)
