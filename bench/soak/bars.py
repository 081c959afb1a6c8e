"""The bars of a soak: what must hold at its end."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from soak.operations import BAD_ENDINGS, GOOD
from soak.soaking import Report

MAX_GROWTH = 0.10  # of the memory, from the second tenth of the time to the last
MAX_MINUTES = 20


@dataclass(frozen=True)
class Bar:
    """One bar, with what was found."""

    name: str
    found: str
    holds: bool


def bars_of(report: Report) -> tuple[Bar, ...]:
    return tuple(_bars(report))


def _bars(report: Report) -> Iterator[Bar]:
    endings = Counter(ended.ending for ended in report.ended)
    yield Bar("other images than alone", str(endings["wrong"]), not endings["wrong"])
    unexpected = endings["unexpected"] + len(report.uncaught)
    yield Bar("unexpected exceptions", str(unexpected), not unexpected)
    early, late = tenth(report.memory, 1), tenth(report.memory, 9)
    growth = late / early - 1
    yield Bar("memory", f"{growth:+.1%}", growth <= MAX_GROWTH)
    left = report.after.beyond(report.before)
    yield Bar("threads and files left", ", ".join(left) or "0", not left)
    minutes = report.seconds / 60
    yield Bar("minutes", f"{minutes:.1f}", minutes <= MAX_MINUTES)


def tenth(values: Sequence[float], index: int) -> float:
    """The median of one tenth of the values."""
    begin, end = (len(values) * each // 10 for each in (index, index + 1))
    return statistics.median(values[begin:end] or values[-1:])


def endings(report: Report, target: str) -> dict[str, int]:
    """The number of operations on a target by how they ended."""
    counts = Counter(each.ending for each in report.ended if each.operation.target == target)
    return {ending: counts[ending] for ending in (*GOOD, *BAD_ENDINGS)}
