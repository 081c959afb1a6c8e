"""The tables of `make faults` and `make soak`: their newest complete runs in bench/results/."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from docs_reference import table
from docs_rows import RESULTS, Row, all_rows, where

_GOOD = {"identical": "the same image", "works": "works", "clear": "one clear line"}
_BAD = ("silent", "unclear", "traceback", "signal", "hang", "broken")
_TITLES = {
    "silent": "wrong, silent",
    "unclear": "unclear",
    "traceback": "traceback",
    "signal": "signal",
    "hang": "hang",
    "broken": "broken file",
}
_COMPLETE_SOAK = 10_000  # operations
_ENDINGS = {
    "identical": "the same image",
    "left": "left",
    "cancelled": "cancelled",
    "expired": "too late",
    "refused": "bad input refused",
    "reopened": "reopened",
    "wrong": "another image",
    "unexpected": "another exception",
}


def faults() -> str:
    """The areas with their cases, as the newest run judged them, and the sum."""
    rows = _newest_run("faults", lambda notes: bool(notes["complete"]))
    if not rows:
        return "*No complete run was recorded.*"
    names = (*_GOOD, *_BAD)
    lines = [(row["name"], row["cases"], *(row["counts"][name] for name in names)) for row in rows]
    sums = (sum(line[column] for line in lines) for column in range(1, len(names) + 2))
    headings = ("", "cases", *_GOOD.values(), *(_TITLES[name] for name in _BAD))
    text = table(headings, [*lines, ("**sum**", *sums)])
    return f"{where(rows, 'onnxruntime')}\n\n{text}"


def soak() -> str:
    """The operations of each target by how they ended, and what was found for each bar."""
    rows = _newest_run("soak", lambda notes: notes["operations"] >= _COMPLETE_SOAK)
    if not rows:
        return "*No complete run was recorded.*"
    lines = [(row["name"], *(row["counts"][name] for name in _ENDINGS)) for row in rows]
    sums = (sum(line[column] for line in lines) for column in range(1, len(_ENDINGS) + 1))
    text = table(("", *_ENDINGS.values()), [*lines, ("**sum**", *sums)])
    notes = rows[0]["notes"]
    memory = notes["megabytes"]
    return (
        f"{where(rows, 'onnxruntime', 'openvino')}\n\n{text}\n\n"
        f"Memory in each tenth of the time: {', '.join(f'{each:.0f}' for each in memory)} MB. "
        f"Threads and files left: {notes['bars']['threads and files left']}. "
        f"It took {notes['minutes']:.0f} minutes."
    )


def _newest_run(bench: str, is_complete: Callable[[Mapping[str, Any]], bool]) -> list[Row]:
    if not (RESULTS / f"{bench}.jsonl").exists():
        return []
    rows = [row for row in all_rows(bench) if is_complete(row["notes"])]
    return [row for row in rows if row["date"] == rows[-1]["date"]]


BLOCKS: Mapping[str, Callable[[], str]] = {"faults": faults, "soak": soak}
