"""Chooses what each preset of `--speed` means, from the rows of bench/forecast.py.

    python tools/speed_presets.py          # writes runtime/sdrt/denoising/speed_presets.json

A budget is admitted if its images keep the preset's bar, the judge sees none of them worse, and
fewer steps that are as near need many more calls. Of the admitted budgets the preset takes the one
with the fewest calls.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter
from typing import Any

from docs_rows import Row, newest
from sdrt.denoising.forecast_plan import strength_of
from sdrt.denoising.speed_presets import BARS, FILE, Bar

MOST = 0.8  # of the calls of fewer steps


def presets() -> list[dict[str, Any]]:
    """The entries of the table, in the order of samplers, calls and guidance."""
    rows = [_facts(row) for row in newest("forecast").values() if "forecast" in row["notes"]]
    place = itemgetter("scheduler", "all calls", "guidance")
    groups = groupby(sorted(rows, key=place), place)
    entries = (_entry(key, list(group)) for key, group in groups)
    return [entry for entry in entries if entry.keys() & BARS.keys()]


def is_admitted(notes: Row, bar: Bar) -> bool:
    """True for a row whose images keep the bar, with fewer calls than fewer steps would need."""
    return bool(
        notes["median"] >= bar.median
        and notes["5th percentile"] >= bar.percentile_5
        and notes["images judged worse"] == 0
        and notes["of the rival's"] <= MOST
    )


def text_of(entries: Sequence[Row]) -> str:
    lines = ",\n".join(json.dumps(entry) for entry in entries)
    return f'{{"presets": [\n{lines}\n]}}\n'


def _facts(row: Row) -> dict[str, Any]:
    """The notes of a row and its median. In older rows every image that the judge sees in another
    way counts as worse."""
    worse = row["notes"]["images judged otherwise"]
    return {"images judged worse": worse, **row["notes"], "median": row["median"]}


def _entry(key: tuple[str, int, float], rows: Sequence[Row]) -> dict[str, Any]:
    sampler, num_calls, guidance = key
    entry: dict[str, Any] = {
        "sampler": sampler,
        "num_calls": num_calls,
        "guidance": strength_of(guidance),
    }
    for speed, bar in BARS.items():
        admitted = [row for row in rows if is_admitted(row, bar)]
        if admitted:
            entry[speed] = min(admitted, key=itemgetter("calls"))["forecast"]
    return entry


if __name__ == "__main__":
    FILE.write_text(text_of(presets()), encoding="utf-8")
