"""The table of presets: as measured."""

from __future__ import annotations

import json
from math import ceil
from typing import Any

import pytest

import speed_presets as chosen
from sdrt.denoising.forecast_plan import strength_of
from sdrt.denoising.speed_presets import BARS, FILE, forecast_of, measured_calls
from sdrt.parameters import Speed

TABLE: list[dict[str, Any]] = json.loads(FILE.read_text(encoding="utf-8"))["presets"]
GUIDANCE = {"moderate": 2.0, "strong": 7.5}


def test_the_table_is_what_the_rows_of_the_bench_give() -> None:
    assert FILE.read_text(encoding="utf-8") == chosen.text_of(chosen.presets())


@pytest.mark.parametrize("entry", TABLE, ids=lambda each: "-".join(map(str, each.values())))
def test_a_preset_is_found_by_its_guidance(entry: dict[str, Any]) -> None:
    sampler, num_calls, guidance = entry["sampler"], entry["num_calls"], GUIDANCE[entry["guidance"]]
    budgets = [forecast_of(speed, sampler, num_calls, guidance) for speed in BARS]
    assert budgets == [entry.get(speed) for speed in BARS]


def test_fast_leaves_out_at_least_as_much_as_balanced() -> None:
    for entry in TABLE:
        assert entry["fast"] <= entry.get("balanced", entry["num_calls"])


@pytest.mark.parametrize("speed", BARS)
def test_presets_end_where_measurements_do(speed: Speed) -> None:
    assert forecast_of(speed, "euler", 20, 3.0) is not None
    assert forecast_of(speed, "euler", 20, 7.6) is None
    assert forecast_of(speed, "euler", 19, 2.0) is None
    assert forecast_of(speed, "lcm", 20, 1.0) is None
    assert 20 in measured_calls(speed, "euler", 1.0)
    assert measured_calls(speed, "euler", 7.6) == []


def test_between_two_measured_numbers_of_calls_it_is_interpolated() -> None:
    at = [forecast_of("balanced", "euler", calls, 2.0) for calls in (20, 25, 30)]
    before, between, after = filter(None, at)
    assert before < after
    assert between == ceil((before + after) / 2)
    fewest, most = (measured_calls("balanced", "euler", 2.0)[i] for i in (0, -1))
    assert forecast_of("balanced", "euler", fewest - 1, 2.0) is None
    assert forecast_of("balanced", "euler", most + 1, 2.0) is None


def row(**changed: float) -> dict[str, float]:
    facts = {"median": 35.0, "5th percentile": 30.0, "images judged worse": 0}
    return {**facts, "of the rival's": 0.8, **changed}


@pytest.mark.parametrize(
    ("changed", "speeds"),
    [
        ({}, ["balanced", "fast"]),
        ({"median": 34.9}, ["fast"]),
        ({"5th percentile": 29.9}, ["fast"]),
        ({"median": 27.9}, []),
        ({"images judged worse": 1}, []),
        ({"of the rival's": 0.81}, []),
    ],
)
def test_a_row_below_a_bar_is_not_admitted(changed: dict[str, float], speeds: list[str]) -> None:
    found = [speed for speed, bar in BARS.items() if chosen.is_admitted(row(**changed), bar)]
    assert found == speeds


def test_guidance_has_two_strengths() -> None:
    assert [strength_of(scale) for scale in (1.0, 3.0, 3.1)] == ["moderate", "moderate", "strong"]
