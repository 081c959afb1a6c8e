"""The presets of `speed`: the options that each means for a sampler, its calls and its guidance.

`speed_presets.json` is what `tools/speed_presets.py` chooses from the rows of `bench/forecast.py`:
for each preset the options with the fewest calls whose images of the demo model keep its bar, and
which need at most 0.8 of the calls of fewer steps. A combination without a row has no such options.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

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
    """The calls that the model answers under a preset; None for all of them."""
    if guidance_scale > STRONGEST:
        return None
    return _presets().get((sampler, num_calls, strength_of(guidance_scale), speed))


def measured_calls(speed: Speed, sampler: str, guidance_scale: float) -> list[int]:
    """The numbers of calls for which a preset means something with a sampler and guidance."""
    if guidance_scale > STRONGEST:
        return []
    wanted = sampler, strength_of(guidance_scale), speed
    return sorted(calls for name, calls, *rest in _presets() if (name, *rest) == wanted)


@cache
def _presets() -> Mapping[tuple[str, int, str, str], int]:
    return dict(_entries(json.loads(FILE.read_text(encoding="utf-8"))))


def _entries(table: Mapping[str, Any]) -> Iterator[tuple[tuple[str, int, str, str], int]]:
    for each in table["presets"]:
        key = each["sampler"], each["num_calls"], each["guidance"]
        for speed in BARS:
            if speed in each:
                yield (*key, speed), each[speed]
