"""Finds which calls of each sampler need the model, on the demo model over its grammar.

    python bench/forecast_search.py [--schedulers euler …] [--steps 20] [--guidance 2 7.5]

For each sampler it records the x0 of every call, and how much an error at each call changes the
latents. From both follows the error of any plan, so plans are compared without running them: calls
are given up one after another, the cheapest first. Each method's order is then tried on other
images, and the best goes into `forecast_orders.json`.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from forecast_images import Setting, psnr, recording, run, scenes_of, with_plan

import sdrt
from sdrt.denoising.forecast_plan import FILE, METHODS, STRONG, smallest_budget
from sdrt.denoising.forecasting import MEMORY, MIN_KNOWN, ForecastPlan, Method, normalised
from sdrt_engines import Array

SHARES = (0.4, 0.5, 0.65)  # of the calls: the budgets that orders are tried with


@dataclass(frozen=True)
class Trajectories:
    """What a search knows of a setting."""

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
    """Runs each scene exactly, then once for each call that is forecast alone."""
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
    for number in range(MIN_KNOWN, n):
        asked = tuple(i != number for i in range(n))
        plan = ForecastPlan(asked, METHODS["linear"], np.inf)
        got = run(pipe, scenes, setting.options, with_plan(plan))
        weights = found._errors(asked, METHODS["linear"])[number]
        change_of_x0 = np.sqrt(weights @ found.products @ weights)
        found.effects[number] = np.linalg.norm(got.latents - exact.latents) / change_of_x0
    return found


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


def best(pipe: sdrt.Pipeline, setting: Setting, num_images: int) -> dict[str, Any]:
    """The entry of a setting in the table."""
    found = trajectories(pipe, setting, num_images)
    scenes, n = scenes_of(num_images, seed=2), len(found.times)
    exact = run(pipe, scenes, setting.options)
    budgets = [max(smallest_budget(n), round(share * n)) for share in SHARES]
    tried = {}
    for name, method in METHODS.items():
        calls = order(found, method)
        plans = [
            ForecastPlan(tuple(i in calls[:budget] for i in range(n)), method, np.inf)
            for budget in budgets
        ]
        figures = [
            np.percentile(
                psnr(exact.pixels, run(pipe, scenes, setting.options, with_plan(plan)).pixels),
                (20, 50),
            )
            for plan in plans
        ]
        tried[name] = float(np.mean(figures)), calls
        shown = ", ".join(
            f"{b}: {low:.1f} {mid:.1f}" for b, (low, mid) in zip(budgets, figures, strict=True)
        )
        print(f"{setting}: {name}: {shown} dB; {calls}", flush=True)
    name = max(tried, key=lambda each: tried[each][0])
    return {
        "sampler": setting.scheduler,
        "num_calls": n,
        "guidance": "strong" if setting.guidance_scale > STRONG else "moderate",
        "method": name,
        "order": tried[name][1],
    }


def write(entries: Sequence[dict[str, Any]]) -> None:
    """Puts entries into the table, in place of older ones."""
    table = json.loads(FILE.read_text(encoding="utf-8"))
    by_key = {_key(each): each for each in [*table["orders"], *entries]}
    lines = ",\n".join(f"  {json.dumps(by_key[key])}" for key in sorted(by_key))
    refused = json.dumps(table["refused"])
    FILE.write_text(f'{{"refused": {refused}, "orders": [\n{lines}\n]}}\n', encoding="utf-8")


def _key(entry: dict[str, Any]) -> tuple[str, int, str]:
    return entry["sampler"], entry["num_calls"], entry["guidance"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedulers", nargs="+", required=True)
    parser.add_argument("--steps", type=int, nargs="+", default=[20])
    parser.add_argument("--guidance", type=float, nargs="+", default=[2, 7.5])
    parser.add_argument("--images", type=int, default=8)
    options = parser.parse_args()
    with sdrt.Pipeline.open("demo", target="cpu") as pipe:
        for scheduler in options.schedulers:
            for num_steps in options.steps:
                for guidance in options.guidance:
                    setting = Setting(scheduler, num_steps, guidance)
                    write([best(pipe, setting, options.images)])


if __name__ == "__main__":
    main()
