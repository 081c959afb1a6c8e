"""A measured figure with all of its samples, and its row as a JSON line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

from sdrt.benchmarking.statistics import Summary, summary_of

Unit: TypeAlias = Literal["s", "it/s", "images/s", "queries/s", "MB", "×", "dB", ""]

_DIGITS = 6  # after the point: microseconds


@dataclass(frozen=True)
class Figure:
    """One measured quantity: `values` are all samples, in the order of measurement.

    `target` is where they were taken, as in `Result.engine`. A figure without samples has a
    `refusal`.
    """

    name: str
    unit: Unit
    values: tuple[float, ...]
    target: str
    refusal: str | None = None
    notes: Mapping[str, Any] = field(default_factory=dict)  # facts about this figure only

    @property
    def summary(self) -> Summary:
        is_likeness = self.unit in ("dB", "")
        return summary_of(self.values, higher_is_better=is_likeness or self.unit.endswith("/s"))


def row_of(figure: Figure) -> dict[str, Any]:
    """The figure for JSON, without unknown values."""
    row = {
        "name": figure.name,
        "unit": figure.unit,
        "num_samples": len(figure.values),
        **(_statistics(figure.summary) if figure.values else {}),
        "target": figure.target,
        "refusal": figure.refusal,
        "notes": dict(figure.notes) or None,
    }
    return {name: value for name, value in row.items() if value is not None}


def _statistics(summary: Summary) -> dict[str, Any]:
    p99 = summary.p99
    return {
        "p50": round(summary.p50, _DIGITS),
        "p90": round(summary.p90, _DIGITS),
        "p99": None if p99 is None else round(p99, _DIGITS),
        "min": round(summary.minimum, _DIGITS),
        "quartiles": [round(value, _DIGITS) for value in summary.quartiles],
    }


def quantity(value: float, unit: Unit) -> str:
    """A figure for people: three digits, or all digits before the decimal point."""
    if unit == "s" and value < 1:
        return f"{_three_digits(value * 1000)} ms"
    return f"{_three_digits(value)} {unit}".rstrip()


def _three_digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 99.95 else f"{value:#.3g}"
