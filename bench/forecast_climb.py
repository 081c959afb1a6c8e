"""Improves a plan of forecasts step by step, where an estimate of errors does not lead far.

    python bench/forecast_climb.py --schedulers euler … [--guidance 7.5] [--seconds 600]

At strong guidance the predictions of some images jump from call to call. There the guard matters as
much as the mask, and both are tried on images: each try moves a call, gives one up, asks for one
more, or takes another method or tolerance. What costs less is kept. The cost is the share of the
calls that the model answers; images below the bar of the preset `balanced`, images that the judge
sees worse, and plans that save little against fewer steps, cost more. The best plan goes into `forecast_plans.json`.
"""

from __future__ import annotations

import argparse
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from forecast_images import Pixels, Setting, num_lost, psnr, run, scenes_of, with_plan
from forecast_search import write

import sdrt
from sdrt.denoising.forecast_plan import METHODS, STRONG, smallest_budget
from sdrt.denoising.forecasting import ForecastPlan
from sdrt.denoising.speed_presets import BARS
from sdrt_engines import Array
from sdrt_export.demo.grammar import Scene

TOLERANCES = (0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0)
SHARES = (0.4, 0.5, 0.6, 0.7, 0.8, 0.9)  # of the steps: rivals, between which is interpolated
BAR = BARS["balanced"]
MARGIN = 1.0  # dB above the bar, as other images may be farther
MOST = 0.75  # of the calls of fewer steps


@dataclass(frozen=True)
class Try:
    """A plan as it stands in the table."""

    asked: str
    method: str
    tolerance: float

    @property
    def plan(self) -> ForecastPlan:
        asked = tuple(letter == "1" for letter in self.asked)
        return ForecastPlan(asked, METHODS[self.method], self.tolerance)

    def neighbour(self) -> Try:
        """The same with one change."""
        kind = random.random()
        if kind < 0.12:
            return replace(self, method=random.choice([*METHODS]))
        if kind < 0.3:
            return replace(self, tolerance=random.choice(TOLERANCES))
        return replace(self, asked=_changed(self.asked))


def _changed(asked: str) -> str:
    """A call given up, asked for, or both: moved. The first two and the last stay."""
    letters, inner = list(asked), range(2, len(asked) - 1)
    given_up = random.random() < 0.7
    if given_up and (ones := [i for i in inner if letters[i] == "1"]):
        letters[random.choice(ones)] = "0"
    if (not given_up or random.random() < 0.5) and (
        zeros := [i for i in inner if letters[i] == "0"]
    ):
        letters[random.choice(zeros)] = "1"
    return "".join(letters)


@dataclass(frozen=True)
class Judge:
    """The exact images of a setting, and how near fewer steps come to them."""

    pipe: sdrt.Pipeline
    setting: Setting
    scenes: Sequence[Scene]
    exact: Pixels
    num_calls: int
    rivals: Array  # (R, 3): calls, median, tail

    @classmethod
    def of(cls, pipe: sdrt.Pipeline, setting: Setting, num_images: int) -> Judge:
        scenes = scenes_of(num_images, seed=2)
        exact = run(pipe, scenes, setting.options)
        rivals = []
        for share in SHARES:
            steps = round(share * setting.num_steps)
            got = run(pipe, scenes, replace(setting, num_steps=steps).options)
            rivals.append((got.num_calls[0], *_nearness(exact.pixels, got.pixels)))
        return cls(
            pipe, setting, scenes, exact.pixels, exact.num_calls[0], np.array(rivals, np.float64)
        )

    def cost(self, tried: Try) -> tuple[float, str]:
        """The cost of a plan, and what it consists of."""
        got = run(self.pipe, self.scenes, self.setting.options, with_plan(tried.plan))
        calls = float(np.mean(got.num_calls))
        median, tail = _nearness(self.exact, got.pixels)
        ratio = calls / ((self._rival(median, 1) + self._rival(tail, 2)) / 2)
        missing = max(0.0, BAR.median + MARGIN - median) + max(
            0.0, BAR.percentile_5 + MARGIN - tail
        )
        lost = num_lost(self.scenes, self.exact, got.pixels)
        cost = calls / self.num_calls + 0.04 * missing + 2 * max(0.0, ratio - MOST) + 0.1 * lost
        return cost, f"{calls:.1f} calls, {median:.1f} ({tail:.1f}) dB, {ratio:.2f}, {lost} lost"

    def _rival(self, value: float, column: int) -> float:
        """The calls of fewer steps that give this PSNR."""
        known = np.maximum.accumulate(self.rivals[:, column])
        return float(np.interp(value, known, self.rivals[:, 0], right=self.num_calls))


def _nearness(expected: Pixels, got: Pixels) -> tuple[float, float]:
    """The median PSNR and its 5th percentile."""
    median, tail = np.percentile(psnr(expected, got), (50, 5))
    return float(median), float(tail)


def starts(num_calls: int) -> Iterator[Try]:
    """Plans that ask at the beginning, at the end, and every second or third call in between."""
    for first, every, tolerance in ((4, 3, 0.25), (4, 3, 0.5), (3, 2, 1.0)):
        asked = [i < first or (i - first + 1) % every == 0 for i in range(num_calls - 1)]
        yield Try("".join(str(int(each)) for each in (*asked, True)), "fitted", tolerance)


def climb(judge: Judge, seconds: float) -> Try:
    """The best plan that was found in this time."""
    end, tried = time.monotonic() + seconds, dict[Try, tuple[float, str]]()
    waiting = list(starts(judge.num_calls))
    while time.monotonic() < end:
        best = min(tried, key=lambda each: tried[each][0]) if tried else None
        following = waiting.pop() if waiting or best is None else best.neighbour()
        if following in tried or following.asked.count("1") < smallest_budget(judge.num_calls):
            continue
        tried[following] = judge.cost(following)
        if best is None or tried[following] < tried[best]:
            print(f"{judge.setting}: {following}: {tried[following][1]}", flush=True)
    return min(tried, key=lambda each: tried[each][0])


def entry_of(judge: Judge, found: Try) -> dict[str, Any]:
    """A plan as the table holds it."""
    return {
        "sampler": judge.setting.scheduler,
        "num_calls": judge.num_calls,
        "guidance": "strong" if judge.setting.guidance_scale > STRONG else "moderate",
        "budget": found.asked.count("1"),
        "asked": found.asked,
        "method": found.method,
        "tolerance": found.tolerance,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedulers", nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, default=7.5)
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--seconds", type=float, default=600.0, help="for each sampler")
    options = parser.parse_args()
    random.seed(0)
    with sdrt.Pipeline.open("demo", target="cpu") as pipe:
        for scheduler in options.schedulers:
            setting = Setting(scheduler, options.steps, options.guidance)
            judge = Judge.of(pipe, setting, options.images)
            write(entry_of(judge, climb(judge, options.seconds)))


if __name__ == "__main__":
    main()
