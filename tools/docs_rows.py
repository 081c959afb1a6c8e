"""Rows of measurements in bench/results/, as the documentation shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

RESULTS = Path(__file__).parent.parent / "bench" / "results"
Row: TypeAlias = Mapping[str, Any]

# The networks of the full-size bundle, in the order in which an image passes through them.
NETWORKS = {
    "text_encoder": "text encoder",
    "text_encoder_2": "second text encoder",
    "unet": "UNet",
    "unet_controlled": "UNet that takes residuals",
    "vae_decoder": "VAE decoder",
    "vae_encoder": "VAE encoder",
    "controlnet_edges": "ControlNet",
}


@cache
def all_rows(bench: str) -> tuple[Row, ...]:
    """Every row of a bench, the oldest first."""
    lines = (RESULTS / f"{bench}.jsonl").read_text(encoding="utf-8").splitlines()
    return tuple(json.loads(line) for line in lines)


def newest(bench: str, **notes: Any) -> dict[str, Row]:
    """The newest row of each name that has these notes."""
    return {
        row["name"]: row
        for row in all_rows(bench)
        if all(row["notes"].get(name) == value for name, value in notes.items())
    }


def number(value: float) -> str:
    """A number with three digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def figure(row: Row) -> str:
    """`0.63 s`"""
    return f"{number(row['median'])} {row['unit']}"


def where(rows: Iterable[Row], *packages: str) -> str:
    """The machine, versions and day of the rows, as one line."""
    newest_row = max(rows, key=lambda row: str(row["date"]))
    machine = newest_row["machine"]
    parts = [
        f"{machine['cpu']}, {machine['cores']} cores",
        *([machine["gpu"]] if "gpu" in machine else []),
        f"{machine['system']}, Python {machine['python']}",
        *(f"{name} {newest_row['versions'][name]}" for name in packages),
        newest_row["date"][:10],
    ]
    return f"*{'; '.join(parts)}.*"


def of_the_last_run(bench: str) -> Sequence[Row]:
    """The last rows of a bench, with no hour between two of them."""
    rows = all_rows(bench)
    times = [datetime.fromisoformat(row["date"]) for row in rows]
    starts = [i for i in range(1, len(rows)) if times[i] - times[i - 1] > timedelta(hours=1)]
    return rows[starts[-1] if starts else 0 :]


def peers(contestant: str, question: str) -> list[Row]:
    """A peer's answers to a question in the newest run of peers."""
    rows = all_rows("peers")
    newest_run = max(row["run"] for row in rows)
    return [
        row
        for row in rows
        if (row["run"], row["contestant"]) == (newest_run, contestant)
        and row["question"]["name"] == question
        and "error" not in row
    ]


def decibels(psnr: float | None) -> str:
    return "" if psnr is None else f"{psnr:.0f} dB"
