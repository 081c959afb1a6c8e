"""The calls that the model answers, by the table and by the rule."""

from __future__ import annotations

import re

import pytest

from sdrt.denoising import forecast_plan
from sdrt.denoising.forecast_plan import budgets_of, plan_of, smallest_budget, spread
from sdrt.errors import RequestError
from sdrt.samplers.config import SamplerConfig
from sdrt.scheduler_names import SHORT_NAMES, split_suffix, variants_of

ENTRIES = forecast_plan._table()["orders"]
REFUSED = forecast_plan._table()["refused"]
FOUND = next(each for each in ENTRIES if each["num_calls"] == 20)


@pytest.mark.parametrize("entry", ENTRIES, ids=lambda each: f"{each['sampler']}-{each['guidance']}")
def test_an_order_names_each_call_once_and_begins_with_the_ends(entry: dict[str, object]) -> None:
    order, n = entry["order"], entry["num_calls"]
    assert isinstance(order, list)
    assert isinstance(n, int)
    assert sorted(order) == [*range(n)]
    assert sorted(order[:3]) == [0, 1, n - 1]
    assert entry["method"] in forecast_plan.METHODS
    stem, suffix = split_suffix(str(entry["sampler"]))
    assert stem + suffix in variants_of(stem)
    assert stem not in REFUSED


@pytest.mark.parametrize("budget", [5, 10, 20])
def test_a_budget_is_the_number_of_calls(budget: int) -> None:
    guidance = 2 if FOUND["guidance"] == "moderate" else 7.5
    plan = plan_of(FOUND["sampler"], 20, budget, guidance, whole=True)
    assert (sum(plan.asked), plan.is_found) == (budget, True)
    assert [i for i, asked in enumerate(plan.asked) if asked] == sorted(FOUND["order"][:budget])


@pytest.mark.parametrize(
    ("sampler", "num_calls", "whole"),
    [(FOUND["sampler"], 21, True), (FOUND["sampler"], 20, False), ("DDIMScheduler", 20, True)],
)
def test_what_the_table_does_not_hold_follows_the_rule(
    sampler: str, num_calls: int, whole: bool
) -> None:
    plan = plan_of(sampler, num_calls, 9, 2, whole=whole)
    assert (plan.asked, plan.is_found) == (spread(num_calls, 9), False)


@pytest.mark.parametrize("num_calls", [*range(1, 60), 1000])
def test_the_rule_keeps_every_budget(num_calls: int) -> None:
    for budget in range(smallest_budget(num_calls), min(num_calls, 60) + 1):
        asked = spread(num_calls, budget)
        assert (len(asked), sum(asked)) == (num_calls, budget)
        assert all(asked[:2])
        assert asked[-1]


def test_the_rule_spreads_what_the_first_calls_leave() -> None:
    written = "".join(str(int(each)) for each in spread(20, 10))
    assert written == "11101001010010100101"


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


@pytest.mark.parametrize("sampler", REFUSED)
def test_a_sampler_whose_forecasts_do_not_pay_is_refused(sampler: str) -> None:
    with pytest.raises(RequestError) as caught:
        budgets_of(10, sampler, [20])
    assert str(caught.value) == (
        f"forecast: does not pay with {sampler}, for which fewer steps are as exact with as many "
        "calls: leave forecast out, and give fewer steps"
    )


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
