"""Finds which calls of each sampler need the model, on the demo model over its grammar.

    python bench/forecast_search.py --schedulers dpmpp_2m … [--steps 20] [--guidance 2]

For each sampler it records the x0 of every call, and how much an error at each call changes the
latents. From both follows an estimate of any plan's error, so plans are compared without running
them: calls are given up one after another, the cheapest first. What the estimate finds, and the
rule, are then tried on other images with each method. What is better than the rule goes into
`forecast_plans.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from forecast_images import Setting, psnr, recording, run, scenes_of, with_plan

import sdrt
from sdrt.denoising.forecast_plan import FILE, METHODS, plan_of, spread, strength_of
from sdrt.denoising.forecasting import MEMORY, MIN_KNOWN, ForecastPlan, Method, normalised
from sdrt_engines import Array

EVERY = 4  # calls: the effects of others are interpolated


@dataclass(frozen=True)
class Trajectories:
    """The x0 of exact runs, and the effect of errors at each call."""

    times: tuple[float, ...]  # of the calls, from 1 to -1
    products: Array  # (n, n): inner products of the calls' x0, over all images
    effects: Array  # (n,): the change of the latents by an error at each call, relative to it

    def cost(self, asked: Sequence[bool], method: Method) -> float:
        """The squared error of the latents, between that of errors that add up and of errors that
        do not depend on each other."""
        errors = self._errors(asked, method) * self.effects[:, None]
        total = errors.sum(axis=0)
        together = total @ self.products @ total
        apart = np.einsum("ki,ij,kj->", errors, self.products, errors)
        return float(together + apart)

    def _errors(self, asked: Sequence[bool], method: Method) -> Array:
        """The error of each call's forecast as weights of all calls' x0, (n, n)."""
        errors = np.zeros((len(asked), len(asked)))
        known: list[int] = []
        for number, is_asked in enumerate(asked):
            if is_asked:
                known = [*known[1 - MEMORY :], number]
                continue
            errors[number, known] = method.weights(
                [self.times[i] for i in known], self.times[number]
            )
            errors[number, number] -= 1
        return errors


def trajectories(pipe: sdrt.Pipeline, setting: Setting, num_images: int) -> Trajectories:
    """Runs each scene exactly, then once for each of some calls that is forecast alone."""
    scenes = scenes_of(num_images, seed=1)
    kept: list[Array] = []
    levels: list[Any] = []

    def change(steps: Any) -> Any:
        levels[:] = steps.calls
        return recording(kept)(steps)

    exact = run(pipe, scenes, setting.options, change)
    n = len(levels)
    batches = [np.stack(kept[i : i + n]) for i in range(0, len(kept), n)]  # (n, B, C, h, w) each
    x0 = np.concatenate(batches, axis=1).reshape(n, -1).astype(np.float64)
    scale = normalised([level.t for level in levels])
    found = Trajectories(tuple(scale(level.t) for level in levels), x0 @ x0.T, np.zeros(n))
    measured = sorted({*range(MIN_KNOWN, n, EVERY), n - 1})
    for number in measured:
        asked = tuple(i != number for i in range(n))
        plan = ForecastPlan(asked, METHODS["linear"], np.inf)
        got = run(pipe, scenes, setting.options, with_plan(plan))
        weights = found._errors(asked, METHODS["linear"])[number]
        change_of_x0 = np.sqrt(weights @ found.products @ weights)
        found.effects[number] = np.linalg.norm(got.latents - exact.latents) / change_of_x0
    effects = np.interp(range(n), measured, found.effects[measured])
    return replace(found, effects=effects)


def order(found: Trajectories, method: Method) -> list[int]:
    """The calls, the most necessary ones first: the last of them is the first to be given up."""
    asked = [True] * len(found.times)
    given_up: list[int] = []
    while sum(asked) > MIN_KNOWN + 1:
        costs = {}
        for number in range(MIN_KNOWN, len(asked) - 1):
            if asked[number]:
                asked[number] = False
                costs[number] = found.cost(asked, method)
                asked[number] = True
        cheapest = min(costs, key=costs.__getitem__)
        asked[cheapest] = False
        given_up.append(cheapest)
    first = [number for number, is_asked in enumerate(asked) if is_asked]
    return first + given_up[::-1]


def candidates(found: Trajectories, budget: int) -> Iterator[ForecastPlan]:
    """The rule's calls, also with more of them at the start, and what the estimate finds, with each
    method."""
    n = len(found.times)
    masks = {spread(n, budget, first) for first in (2, budget // 3)}
    for method in METHODS.values():
        calls = order(found, method)[:budget]
        own = tuple(number in calls for number in range(n))
        yield from (ForecastPlan(asked, method, np.inf) for asked in sorted({*masks, own}))


def best(
    pipe: sdrt.Pipeline, setting: Setting, num_images: int, budgets: Sequence[float]
) -> Iterator[tuple[dict[str, Any], bool]]:
    """The entries of a setting for the table: for each budget the plan with the best images, and
    whether that is another than the rule's."""
    found = trajectories(pipe, setting, num_images)
    scenes, n = scenes_of(num_images, seed=2), len(found.times)
    exact = run(pipe, scenes, setting.options)
    names = {method: name for name, method in METHODS.items()}
    for budget in (round(share * n) for share in budgets):
        tried = {}
        for plan in candidates(found, budget):
            got = run(pipe, scenes, setting.options, with_plan(plan))
            tried[plan] = float(np.mean(np.percentile(psnr(exact.pixels, got.pixels), (20, 50))))
        plan = max(tried, key=tried.__getitem__)
        rule = plan_of(setting.scheduler, n, budget, setting.guidance_scale, whole=False)
        entry = {
            "sampler": setting.scheduler,
            "num_calls": n,
            "guidance": strength_of(setting.guidance_scale),
            "budget": budget,
            "asked": "".join(str(int(each)) for each in plan.asked),
            "method": names[plan.method],
        }
        print(f"{setting}: {tried[plan]:.1f} dB, {entry}", flush=True)
        yield entry, (plan.asked, plan.method) != (rule.asked, rule.method)


def write(entry: dict[str, Any], *, is_better: bool) -> None:
    """Puts an entry into the table, in place of an older one; or only takes that out, if the rule
    is as good."""
    table = json.loads(FILE.read_text(encoding="utf-8"))
    by_key = {_key(each): each for each in [*table.pop("plans"), entry]}
    if not is_better:
        del by_key[_key(entry)]
    rest = "".join(f'"{name}": {json.dumps(value)},\n' for name, value in table.items())
    plans = ",\n".join(json.dumps(by_key[key]) for key in sorted(by_key))
    FILE.write_text(f'{{{rest}"plans": [\n{plans}\n]}}\n', encoding="utf-8")


def _key(entry: dict[str, Any]) -> tuple[str, int, str, int]:
    return entry["sampler"], entry["num_calls"], entry["guidance"], entry["budget"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedulers", nargs="+", required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[20])
    parser.add_argument("--guidance", type=float, default=2)
    parser.add_argument("--budgets", type=float, nargs="+", default=[0.4, 0.5, 0.6, 0.7])
    parser.add_argument("--images", type=int, default=8)
    options = parser.parse_args()
    with sdrt.Pipeline.open("demo", target="cpu") as pipe:
        for scheduler in options.schedulers:
            for num_steps in options.steps:
                setting = Setting(scheduler, num_steps, options.guidance)
                for entry, is_better in best(pipe, setting, options.images, options.budgets):
                    write(entry, is_better=is_better)


if __name__ == "__main__":
    main()
