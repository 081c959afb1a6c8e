"""The presets of `speed`: the options that each means for a sampler, its calls and its guidance.

`speed_presets.json` is what `tools/speed_presets.py` chooses from the rows of `bench/forecast.py`:
for each preset the options with the fewest calls whose images of the demo model keep its bar, and
which need at most 0.8 of the calls of fewer steps. A combination without a row has no such options.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from math import ceil
from pathlib import Path

import numpy as np

from sdrt.denoising.forecast_plan import strength_of
from sdrt.parameters import Speed

FILE = Path(__file__).with_name("speed_presets.json")
STRONGEST = 7.5  # guidance that was measured


@dataclass(frozen=True)
class Bar:
    """The fidelity of a preset: PSNR against the exact images, in dB."""

    median: float
    percentile_5: float  # which 95 % of the images exceed


BARS: Mapping[Speed, Bar] = {"balanced": Bar(35.0, 30.0), "fast": Bar(28.0, 0.0)}


def forecast_of(speed: Speed, sampler: str, num_calls: int, guidance_scale: float) -> int | None:
    """The calls that the model answers under a preset; None for all of them. Between two numbers of
    calls that were measured it is interpolated."""
    measured = _measured(speed, sampler, guidance_scale)
    below = max((calls for calls in measured if calls <= num_calls), default=None)
    above = min((calls for calls in measured if calls >= num_calls), default=None)
    if below is None or above is None:
        return None
    ends = (below, above), (measured[below], measured[above])
    return ceil(np.interp(num_calls, *ends))


def measured_calls(speed: Speed, sampler: str, guidance_scale: float) -> list[int]:
    """The numbers of calls for which a preset was measured with a sampler and guidance."""
    return sorted(_measured(speed, sampler, guidance_scale))


def _measured(speed: Speed, sampler: str, guidance_scale: float) -> Mapping[int, int]:
    """The calls that the model answers, by the number of all calls."""
    if guidance_scale > STRONGEST:
        return {}
    return _presets().get((sampler, strength_of(guidance_scale), speed), {})


@cache
def _presets() -> Mapping[tuple[str, str, str], Mapping[int, int]]:
    table = json.loads(FILE.read_text(encoding="utf-8"))
    presets: dict[tuple[str, str, str], dict[int, int]] = {}
    for each in table["presets"]:
        for speed in BARS.keys() & each.keys():
            key = each["sampler"], each["guidance"], speed
            presets.setdefault(key, {})[each["num_calls"]] = each[speed]
    return presets
