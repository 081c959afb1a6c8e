"""Measures what forecasts and guidance intervals cost: images of the demo model against exact ones.

    python bench/forecast.py [--schedulers euler …] [--guidance 2 7.5] [--images 40]

A row for each sampler, guidance and budget: the PSNR of each image against the exact one, how many
images the judge sees differently, the calls that the model answered, and those that the rival
needs: the same sampler with the fewest steps that give the same median PSNR.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from forecast_images import Run, Setting, num_changed, psnr, run, scenes_of
from recording import Measurement, record

import sdrt
from sdrt_engines.packages import installed_versions
from sdrt_export.demo.grammar import Scene

SHARES = (0.4, 0.5, 0.6, 0.7)  # of the calls
INTERVALS = ((0.0, 0.5), (0.2, 0.8), (0.0, 0.8), (0.2, 1.0))


@dataclass(frozen=True)
class Comparison:
    """A setting with the exact images of its scenes."""

    pipe: sdrt.Pipeline
    setting: Setting
    scenes: Sequence[Scene]
    exact: Run

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
        median = float(np.median(psnr(self.exact.pixels, got.pixels)))
        rival_steps, rival_calls = self.rival(median)
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

    def rival(self, median: float) -> tuple[int, int]:
        """The fewest steps whose images are at least that near to the exact ones, and their
        calls."""
        low, high = 2, self.setting.num_steps  # of which `high` is near enough
        calls = self.num_calls
        while low < high:
            steps = (low + high) // 2
            options = replace(self.setting, num_steps=steps).options
            got = run(self.pipe, self.scenes, options)
            if np.median(psnr(self.exact.pixels, got.pixels)) >= median:
                high, calls = steps, got.num_calls[0]
            else:
                low = steps + 1
        return high, calls

    def _measurement(self, what: str, got: Run, notes: dict[str, Any]) -> Measurement:
        values = psnr(self.exact.pixels, got.pixels)
        setting = self.setting
        return Measurement(
            f"{setting}, {what}",
            "dB",
            tuple(round(float(value), 2) for value in values),
            installed_versions("sdrt", "onnxruntime"),
            {
                "scheduler": setting.scheduler,
                "steps": setting.num_steps,
                "guidance": setting.guidance_scale,
                "all calls": self.num_calls,
                "5th percentile": round(float(np.percentile(values, 5)), 2),
                "images judged otherwise": num_changed(self.scenes, self.exact.pixels, got.pixels),
                **notes,
            },
        )


def measurements(comparison: Comparison, *, intervals: bool) -> Iterator[Measurement]:
    for share in SHARES:
        yield comparison.forecast(round(share * comparison.num_calls))
    if intervals:
        for start, end in INTERVALS:
            yield comparison.interval(start, end)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedulers", nargs="+", required=True)
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--guidance", type=float, nargs="+", default=[2, 7.5])
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--intervals", action="store_true", help="measure these, too")
    options = parser.parse_args()
    scenes = scenes_of(options.images, seed=3)
    with sdrt.Pipeline.open("demo", target="cpu") as pipe:
        for scheduler in options.schedulers:
            for guidance in options.guidance:
                setting = Setting(scheduler, options.steps, guidance)
                comparison = Comparison.of(pipe, setting, scenes)
                record("forecast", list(measurements(comparison, intervals=options.intervals)))


if __name__ == "__main__":
    main()
