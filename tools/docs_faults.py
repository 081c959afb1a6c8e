"""The table of `make faults`: the newest complete run in bench/results/faults.jsonl."""

from __future__ import annotations

from collections.abc import Callable, Mapping

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


def faults() -> str:
    """The areas with their cases, as the newest run judged them, and the sum."""
    rows = _newest_run()
    if not rows:
        return "*No complete run was recorded.*"
    names = (*_GOOD, *_BAD)
    lines = [(row["name"], row["cases"], *(row["counts"][name] for name in names)) for row in rows]
    sums = (sum(line[column] for line in lines) for column in range(1, len(names) + 2))
    headings = ("", "cases", *_GOOD.values(), *(_TITLES[name] for name in _BAD))
    text = table(headings, [*lines, ("**sum**", *sums)])
    return f"{where(rows, 'onnxruntime')}\n\n{text}"


def _newest_run() -> list[Row]:
    if not (RESULTS / "faults.jsonl").exists():
        return []
    rows = [row for row in all_rows("faults") if row["notes"]["complete"]]
    return [row for row in rows if row["date"] == rows[-1]["date"]]


BLOCKS: Mapping[str, Callable[[], str]] = {"faults": faults}
