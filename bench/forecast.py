"""Measures what forecasts and guidance intervals cost: images of the demo model against exact ones.

    python bench/forecast.py [--schedulers euler …] [--guidance 2 7.5] [--images 24]
        [--budgets 8 …] [--intervals]

A row for each sampler, guidance and budget or interval: the PSNR of each image against the exact
one and how many images the judge sees differently. For forecasts also the calls that the model
answered, and those of the rival: the same sampler with the fewest steps whose images are as near,
in the median and at the 5th percentile.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import product, starmap
from typing import Any

import numpy as np
from forecast_images import TAIL, Run, Setting, nearness, psnr, run, scenes_of
from recording import Measurement, record

import sdrt
from sdrt.benchmarking.likeness import EQUAL
from sdrt.denoising.forecast_plan import smallest_budget
from sdrt_engines import Array
from sdrt_engines.packages import installed_versions
from sdrt_export.demo.grammar import Scene

SCHEDULERS = ("dpmpp_2m", "ddim", "euler", "unipc", "euler_a", "heun")
SHARES = (0.3, 0.4, 0.5, 0.7)  # of the calls
INTERVALS = ((0.0, 0.5), (0.2, 0.8), (0.0, 0.8), (0.2, 1.0))  # of the guided steps


@dataclass(frozen=True)
class Fewer:
    """Images with fewer steps: their PSNR and their calls."""

    median: float
    tail: float
    num_calls: int


@dataclass(frozen=True)
class Comparison:
    """A setting with the exact images of its scenes."""

    pipe: sdrt.Pipeline
    setting: Setting
    scenes: Sequence[Scene]
    exact: Run
    fewer: dict[int, Fewer] = field(default_factory=dict)  # by steps

    @classmethod
    def of(cls, pipe: sdrt.Pipeline, setting: Setting, scenes: Sequence[Scene]) -> Comparison:
        return cls(pipe, setting, scenes, run(pipe, scenes, setting.options))

    @property
    def num_calls(self) -> int:
        return self.exact.num_calls[0]

    def forecast(self, budget: int) -> Measurement:
        """The row of a budget."""
        got = run(self.pipe, self.scenes, self.setting.options | {"forecast": budget})
        calls = float(np.mean(got.num_calls))
        rival_steps = self.rival(psnr(self.exact.pixels, got.pixels))
        rival_calls = self._with_fewer(rival_steps).num_calls
        notes = {
            "forecast": budget,
            "calls": round(calls, 2),
            "rival's steps": rival_steps,
            "rival's calls": rival_calls,
            "of the rival's": round(calls / rival_calls, 3),
        }
        return self._measurement(f"forecast {budget}", got, notes)

    def interval(self, start: float, end: float) -> Measurement:
        """The row of a guidance interval."""
        options = self.setting.options | {"guidance_interval": (start, end)}
        got = run(self.pipe, self.scenes, options)
        n = self.num_calls
        guided = sum(i / n >= start and (i + 1) / n <= end for i in range(n))
        notes = {"guidance interval": [start, end], "rows": round((n + guided) / (2 * n), 3)}
        return self._measurement(f"guidance interval {start:g}:{end:g}", got, notes)

    def rival(self, values: Array) -> int:
        """The fewest steps whose images are at least as near to the exact ones as these PSNRs."""
        median, tail = np.median(values), np.percentile(values, TAIL)
        low, high = 2, self.setting.num_steps  # of which `high` is near enough in the median
        while low < high:
            steps = (low + high) // 2
            if self._with_fewer(steps).median >= median:
                high = steps
            else:
                low = steps + 1
        while self._with_fewer(high).tail < tail:
            high += 1
        return high

    def _with_fewer(self, steps: int) -> Fewer:
        if steps == self.setting.num_steps:
            return Fewer(EQUAL, EQUAL, self.num_calls)
        if steps not in self.fewer:
            got = run(self.pipe, self.scenes, replace(self.setting, num_steps=steps).options)
            median, tail = np.percentile(psnr(self.exact.pixels, got.pixels), (50, TAIL))
            self.fewer[steps] = Fewer(float(median), float(tail), got.num_calls[0])
        return self.fewer[steps]

    def _measurement(self, what: str, got: Run, notes: dict[str, Any]) -> Measurement:
        versions = installed_versions("sdrt", "onnxruntime")
        notes = {**self.setting.notes, "all calls": self.num_calls, **notes}
        name = f"{self.setting}, {what}"
        return nearness(name, self.scenes, self.exact.pixels, got.pixels, versions, notes)


def budgets_of(num_calls: int) -> list[int]:
    """The shares of the calls."""
    return [max(round(share * num_calls), smallest_budget(num_calls)) for share in SHARES]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedulers", nargs="+", default=SCHEDULERS)
    parser.add_argument("--steps", type=int, nargs="+", default=[20])
    parser.add_argument("--guidance", type=float, nargs="+", default=[2, 7.5])
    parser.add_argument("--images", type=int, default=24)
    parser.add_argument("--budgets", type=int, nargs="+", help="measure only these")
    parser.add_argument("--intervals", action="store_true", help="measure these instead")
    options = parser.parse_args()
    scenes = scenes_of(options.images, seed=4)  # others than those of the searches
    with sdrt.Pipeline.open("demo", target="cpu") as pipe:
        for setting in starmap(
            Setting, product(options.schedulers, options.steps, options.guidance)
        ):
            comparison = Comparison.of(pipe, setting, scenes)
            if options.intervals:
                rows = [comparison.interval(*interval) for interval in INTERVALS]
            else:
                budgets = options.budgets or budgets_of(comparison.num_calls)
                rows = [comparison.forecast(budget) for budget in budgets]
            record("forecast", rows)


if __name__ == "__main__":
    main()
