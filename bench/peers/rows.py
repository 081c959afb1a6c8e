"""Figures of the rows of a run, and tables of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from statistics import median
from typing import Any, TypeAlias

Row: TypeAlias = Mapping[str, Any]


def is_ours(name: str) -> bool:
    return name.startswith("sdrt")


def answered(rows: Sequence[Row], name: str | None = None) -> list[Row]:
    """The rows with figures, of one contestant or of all."""
    return [row for row in rows if "error" not in row and name in (None, row["contestant"])]


def failures(rows: Sequence[Row]) -> list[tuple[str, str]]:
    return [(row["contestant"], row["error"].splitlines()[-1]) for row in rows if "error" in row]


def fastest_first(rows: Sequence[Row]) -> list[str]:
    names = {row["contestant"] for row in answered(rows)}
    return sorted(names, key=lambda name: figure(answered(rows, name), step_of))


def step_of(row: Row) -> float:
    return median(row["steps"])


def figure(rows: Sequence[Row], of: Callable[[Row], float]) -> float:
    return median(map(of, rows)) if rows else 0.0


def spread(rows: Sequence[Row], of: Callable[[Row], float]) -> str:
    values = [of(row) for row in rows]
    return f"{min(values):.2f} to {max(values):.2f}"


def seconds(rows: Sequence[Row], *path: str) -> str:
    """The median of a figure, found by its path; empty if no row has it."""
    values = []
    for row in rows:
        value: Any = row
        for name in path:
            value = value.get(name) if value is not None else None
        values += [] if value is None else [value]
    return f"{median(values):.1f}" if values else ""


def decibels(rows: Sequence[Row]) -> str:
    values = [row["psnr"] for row in rows if row.get("psnr") is not None]
    return f"{median(values):.0f}" if values else ""


def table(headings: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """Markdown."""
    rule = "|---" + "|---:" * (len(headings) - 1) + "|"
    body = [f"| {' | '.join(line)} |" for line in lines]
    return "\n".join([f"| {' | '.join(headings)} |", rule, *body])
