"""The calls that the model answers, by the table and by the rule."""

from __future__ import annotations

import re
from typing import Any

import pytest

from docs_rows import newest
from sdrt.denoising import forecast_plan
from sdrt.denoising.forecast_plan import (
    METHODS,
    budgets_of,
    pays,
    plan_of,
    smallest_budget,
    spread,
)
from sdrt.denoising.forecasting import ForecastPlan
from sdrt.errors import RequestError
from sdrt.samplers.config import SamplerConfig
from sdrt.scheduler_names import SHORT_NAMES, variants_of

TABLE = forecast_plan._table()
MODERATE, STRONG = 2.0, 7.5
GUIDANCE = {"moderate": MODERATE, "strong": STRONG}


@pytest.mark.parametrize(
    "entry", TABLE["plans"], ids=lambda each: "-".join(map(str, each.values()))
)
def test_a_plan_of_the_table_keeps_its_budget(entry: dict[str, Any]) -> None:
    n, budget = entry["num_calls"], entry["budget"]
    kin = [name for name, kind in TABLE["same as"].items() if kind == entry["sampler"]]
    for sampler in (entry["sampler"], *kin):
        plan = plan_of(sampler, n, budget, GUIDANCE[entry["guidance"]], whole=True)
        assert (len(plan.asked), sum(plan.asked)) == (n, budget)
        assert plan.asked[:2] == (True, True)
        assert plan.asked[-1]


def test_the_table_names_samplers_that_exist() -> None:
    names = {each["sampler"] for each in TABLE["plans"]} | {*TABLE["same as"], *TABLE["refused"]}
    assert names <= {each for stem in SHORT_NAMES for each in variants_of(stem)}
    assert not {*TABLE["refused"]} & (names - {*TABLE["refused"]})
    assert {*TABLE["same as"].values()} <= {each["sampler"] for each in TABLE["plans"]}


@pytest.mark.parametrize(
    ("sampler", "num_calls", "budget", "whole"),
    [
        ("euler", 21, 10, True),
        ("euler", 20, 9, True),
        ("euler", 20, 10, False),
        ("DDIMScheduler", 20, 10, True),
    ],
)
def test_what_the_table_does_not_hold_follows_the_rule(
    sampler: str, num_calls: int, budget: int, whole: bool
) -> None:
    plan = plan_of(sampler, num_calls, budget, MODERATE, whole=whole)
    assert plan == ForecastPlan(spread(num_calls, budget), METHODS["fitted"], tolerance=1.0)


@pytest.mark.parametrize(
    ("sampler", "guidance"),
    [("dpmpp_2m", STRONG), ("dpmpp_2m_karras", MODERATE), ("euler_beta", MODERATE)],
)
def test_where_predictions_jump_more_calls_are_at_the_start_and_the_guard_is_strict(
    sampler: str, guidance: float
) -> None:
    plan = plan_of(sampler, 30, 10, guidance, whole=True)
    assert plan.asked == spread(30, 10, first=3)
    assert (plan.method, plan.tolerance) == (METHODS["fitted"], 0.35)


@pytest.mark.parametrize("sampler", ["euler", "nothing"])
@pytest.mark.parametrize("guidance", [MODERATE, STRONG])
def test_a_budget_of_all_calls_asks_for_each(sampler: str, guidance: float) -> None:
    assert plan_of(sampler, 7, 7, guidance, whole=False).asked == (True,) * 7


@pytest.mark.parametrize("num_calls", [*range(1, 60), 1000])
def test_the_rule_keeps_every_budget(num_calls: int) -> None:
    for budget in range(smallest_budget(num_calls), min(num_calls, 60) + 1):
        for first in (2, budget // 3):
            asked = spread(num_calls, budget, first)
            assert (len(asked), sum(asked)) == (num_calls, budget)
            assert all(asked[: max(2, first)])
            assert asked[-1]


def test_the_rule_spreads_what_the_first_calls_leave() -> None:
    written = ["".join(str(int(each)) for each in spread(20, 8, first)) for first in (2, 4)]
    assert written == ["11001001001001001001", "11110001000100010001"]


# --- budgets of stages


@pytest.mark.parametrize(
    ("budget", "num_calls", "expected"),
    [
        (10, [20], [10]),
        (20, [20], [20]),
        (5, [20], [5]),
        (10, [16, 4], [6, 4]),  # the last 4 of 4 are the fewest
        (10, [10, 10], [5, 5]),
        (20, [16, 4], [16, 4]),
        (19, [16, 4], [15, 4]),
        (8, [10, 10], [4, 4]),
        (30, [12, 28], [9, 21]),
    ],
)
def test_stages_share_a_budget(budget: int, num_calls: list[int], expected: list[int]) -> None:
    assert budgets_of(budget, "euler", num_calls) == expected


@pytest.mark.parametrize("first", range(1, 25))
@pytest.mark.parametrize("last", range(1, 25, 5))
def test_every_stage_can_keep_its_share(first: int, last: int) -> None:
    smallest = smallest_budget(first) + smallest_budget(last)
    for budget in range(smallest, first + last + 1):
        shares = budgets_of(budget, "euler", [first, last])
        assert sum(shares) == budget
        for share, calls in zip(shares, (first, last), strict=True):
            assert smallest_budget(calls) <= share <= calls


@pytest.mark.parametrize("budget", [1, 4, 21, 2000])
def test_a_budget_out_of_range_names_the_range(budget: int) -> None:
    message = (
        f"forecast: got {budget}, expected 5 to 20, as euler makes 20 calls here: give a number in "
        "this range, or leave forecast out"
    )
    with pytest.raises(RequestError, match=f"^{re.escape(message)}$"):
        budgets_of(budget, "euler", [20])


@pytest.mark.parametrize("sampler", TABLE["refused"])
def test_a_sampler_without_forecasts_is_refused(sampler: str) -> None:
    with pytest.raises(RequestError) as caught:
        budgets_of(10, sampler, [20])
    assert str(caught.value) == (
        f"forecast: not offered for {sampler}, as fewer steps save as many calls: leave forecast "
        "out, and give fewer steps"
    )


def ratios(guidance: float) -> dict[str, float]:
    """For each sampler in the bench's rows the best ratio to the calls of fewer steps."""
    best: dict[str, float] = {}
    for row in newest("forecast", guidance=guidance).values():
        if "forecast" in row["notes"]:
            name, ratio = row["notes"]["scheduler"], row["notes"]["of the rival's"]
            best[name] = min(ratio, best.get(name, ratio))
    return best


def test_samplers_that_the_bench_found_wanting_are_refused() -> None:
    found = ratios(MODERATE)
    assert {*TABLE["same as"]} <= found.keys()
    poor = {name for name, ratio in found.items() if ratio > 0.8}
    assert {*TABLE["refused"]} == poor | {"lcm", "tcd"}  # which have a few steps only


def test_samplers_that_gain_little_at_strong_guidance_are_named() -> None:
    poor = {name for name, ratio in ratios(STRONG).items() if ratio > 0.8}
    assert {*TABLE["no gain"]} == poor - {*TABLE["refused"]}
    for name in poor:
        assert (pays(name, MODERATE), pays(name, STRONG)) == (True, False)


# --- names of samplers


@pytest.mark.parametrize("name", [each for stem in SHORT_NAMES for each in variants_of(stem)])
def test_a_short_name_is_found_by_its_options(name: str) -> None:
    expected = name.removesuffix("_trailing")
    assert SamplerConfig("DDIMScheduler").renamed(name).short_name == expected


@pytest.mark.parametrize(
    ("scheduler", "options", "expected"),
    [
        ("DDIMScheduler", {}, "ddim"),
        ("DPMSolverMultistepScheduler", {}, "dpmpp_2m"),
        ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}, "dpmpp_2m_karras"),
        ("DPMSolverMultistepScheduler", {"algorithm_type": "dpmsolver"}, None),
    ],
)
def test_a_class_with_the_options_of_a_short_name_is_that(
    scheduler: str, options: dict[str, object], expected: str | None
) -> None:
    assert SamplerConfig(scheduler, options).short_name == expected
