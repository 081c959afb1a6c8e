"""The plans of forecasts: which calls of a sampler the model answers, and how others are forecast.

The rule: the model answers the first calls, the last one, and others spread evenly in between, and
each image fits the slope of its forecasts. `forecast_plans.json` holds what is better on the demo
model, for a sampler, a number of calls, a strength of guidance and a budget: at moderate guidance
what `bench/forecast_search.py` found. Samplers of one kind share plans.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from sdrt.denoising.forecasting import ForecastPlan, Method
from sdrt.errors import RequestError
from sdrt.scheduler_names import SIGMAS, split_suffix

FILE = Path(__file__).with_name("forecast_plans.json")
METHODS: Mapping[str, Method] = {
    "reuse": Method(slope=0),
    "linear": Method(),
    "fitted": Method(is_fitted=True),
    "chebyshev": Method(share=0.5),
}
STRONG = 3.0  # guidance above it: its predictions change in other ways
TOLERANCE = 1.0  # of the guard: a forecast as wrong as no image at all
STRICT = 0.35  # where predictions jump: at strong guidance, and with sigmas of unequal steps


def smallest_budget(num_calls: int) -> int:
    """The fewest calls that the model must answer: a quarter."""
    return min(num_calls, max(4, -(-num_calls // 4)))


def budgets_of(budget: int, sampler: str, num_calls: Sequence[int]) -> list[int]:
    """A request's budget, divided over its stages in proportion to their calls.

    RequestError for a sampler that has no forecasts, or a budget that it cannot keep.
    """
    if split_suffix(sampler)[0] in _table()["refused"]:
        raise RequestError(
            f"forecast: not offered for {sampler}, as fewer steps save as many calls: leave "
            "forecast out, and give fewer steps"
        )
    smallest, total = sum(map(smallest_budget, num_calls)), sum(num_calls)
    if not smallest <= budget <= total:
        raise RequestError(
            f"forecast: got {budget}, expected {smallest} to {total}, as {sampler} makes {total} "
            "calls here: give a number in this range, or leave forecast out"
        )
    budgets = []
    for index, calls in enumerate(num_calls):
        later = num_calls[index + 1 :]
        most = min(calls, budget - sum(map(smallest_budget, later)))
        least = max(smallest_budget(calls), budget - sum(later))
        share = round(budget * calls / (calls + sum(later)))
        budgets.append(min(max(share, least), most))
        budget -= budgets[-1]
    return budgets


def pays(sampler: str, guidance_scale: float) -> bool:
    """False if fewer steps were as exact with about as many calls at strong guidance."""
    return guidance_scale <= STRONG or sampler not in _table()["no gain"]


def strength_of(guidance_scale: float) -> str:
    """The strength of guidance, as the tables of plans and presets name it."""
    return "strong" if guidance_scale > STRONG else "moderate"


def plan_of(
    sampler: str, num_calls: int, budget: int, guidance_scale: float, *, whole: bool
) -> ForecastPlan:
    """The plan for a budget; `whole` is False for a part of a schedule, as of image to image."""
    jumps = guidance_scale > STRONG or split_suffix(sampler)[1] in SIGMAS
    tolerance = STRICT if jumps else TOLERANCE
    entry = _entry(sampler, num_calls, strength_of(guidance_scale), budget) if whole else None
    if entry is not None:
        asked = tuple(letter == "1" for letter in entry["asked"])
        return ForecastPlan(asked, METHODS[entry["method"]], entry.get("tolerance", tolerance))
    asked = spread(num_calls, budget, first=budget // 3 if jumps else 2)
    return ForecastPlan(asked, METHODS["fitted"], tolerance)


def _entry(sampler: str, num_calls: int, strength: str, budget: int) -> Mapping[str, Any] | None:
    """A sampler's own plan in the table, or that of its kind."""
    found, rest = _found(), (num_calls, strength, budget)
    return found.get((sampler, *rest)) or found.get((_table()["same as"].get(sampler, ""), *rest))


def spread(num_calls: int, budget: int, first: int = 2) -> tuple[bool, ...]:
    """The rule: the model answers the first calls, and the rest evenly up to the last."""
    first = max(2, first)
    rest = np.linspace(first - 1, num_calls - 1, budget - first + 1).round()
    asked = {*range(first), *rest.astype(int).tolist()}
    return tuple(number in asked for number in range(num_calls))


@cache
def _table() -> Mapping[str, Any]:
    contents: Mapping[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return contents


@cache
def _found() -> Mapping[tuple[str, int, str, int], Mapping[str, Any]]:
    """The plans of the table, by sampler, number of calls, strength of guidance and budget."""
    names = ("sampler", "num_calls", "guidance", "budget")
    return {tuple(each[name] for name in names): each for each in _table()["plans"]}
