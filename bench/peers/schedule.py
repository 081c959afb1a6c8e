"""The order of visits: those that a run has not measured yet."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

from recording import alone_on_the_machine, machine

from peers.contestants import (
    CONTESTANTS,
    FURTHER,
    LONG,
    NUM_FURTHER,
    NUM_LONG,
    NUM_ROUNDS,
    ORACLE,
    SHORT,
    Contestant,
    Question,
)
from peers.visits import Course, Race, Visit, visited

Row = Mapping[str, Any]


def race_in(work: Path, course: Course, num_threads: int, *, new: bool) -> Race:
    """The unfinished run of this machine, or a new one."""
    path = work / f"run-{course.bench}.json"
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    facts = {"machine": machine(), "threads": num_threads}
    if new or {name: known.get(name) for name in facts} != facts:
        known = facts | {"name": f"{datetime.now(UTC):%Y-%m-%dT%H:%M}"}
        path.write_text(json.dumps(known, indent=2), encoding="utf-8")
    return Race(work, known["name"], num_threads, course)


def run_visits(
    race: Race, missing: Callable[[Sequence[Row]], Iterator[Visit]], minutes: float
) -> None:
    """Makes the missing visits while there is time."""
    end = time.monotonic() + 60 * minutes
    while visit := next(missing(rows_of(race)), None):
        if time.monotonic() > end:
            print("the time is over: call again to continue")
            return
        with alone_on_the_machine():
            row = visited(visit, race)
        with race.rows.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(line_of(row), flush=True)


def missing_visits(rows: Sequence[Row], only: Sequence[str] | None = None) -> Iterator[Visit]:
    """The missing visits, in their order. FURTHER is decided when everyone has answered."""
    asked = [each for each in CONTESTANTS if only is None or each.name in only]
    further = (visit for visit in further_visits(rows) if visit.contestant in asked)
    yield from not_done((*rounds(asked, SHORT, rows), *further), rows)


def not_done(visits: Iterable[Visit], rows: Sequence[Row]) -> Iterator[Visit]:
    """The visits that have no row."""
    done = {(row["contestant"], row["question"]["name"], row["round"]) for row in rows}
    return (visit for visit in visits if visit.key not in done)


def rounds(
    contestants: Sequence[Contestant], question: Question, rows: Sequence[Row]
) -> Iterator[Visit]:
    """Rounds of all, the oracle first; a contestant that failed is not asked again."""
    failed = {row["contestant"] for row in rows if "error" in row}
    order = sorted(contestants, key=lambda each: each.name != ORACLE)
    for number in range(1, NUM_ROUNDS + 1):
        for contestant in order:
            if contestant.name not in failed:
                yield Visit(contestant, question, number)


def further_visits(rows: Sequence[Row]) -> Iterator[Visit]:
    """The longer images for the fastest, and FURTHER for our targets and the fastest peers."""
    ranked = fastest_first(rows)
    for contestant in ranked[:NUM_LONG]:
        yield Visit(contestant, LONG, 1)
    ours = [contestant for contestant in ranked if contestant.ours]
    peers = [contestant for contestant in ranked if not contestant.ours]
    asked = [contestant for contestant in ranked if contestant in (*ours, *peers[:NUM_FURTHER])]
    for question in FURTHER:
        for contestant in asked:
            if question.kind in contestant.kinds:
                yield Visit(contestant, question, 1)


def fastest_first(rows: Sequence[Row]) -> list[Contestant]:
    """The contestants that answered, by the median of their warm images."""
    images: dict[str, list[float]] = {}
    for row in rows:
        if row["question"]["name"] == SHORT.name and "error" not in row:
            images.setdefault(row["contestant"], []).append(row["image"])
    answered = [contestant for contestant in CONTESTANTS if contestant.name in images]
    return sorted(answered, key=lambda contestant: median(images[contestant.name]))


def rows_of(race: Race) -> list[Row]:
    """The rows of a run."""
    lines = race.rows.read_text(encoding="utf-8").splitlines() if race.rows.exists() else []
    return [row for row in map(json.loads, lines) if row["run"] == race.name]


def line_of(row: Row) -> str:
    name = f"{row['contestant']}, {row['question']['name']}, round {row['round']}"
    if "error" in row:
        return f"{name}: {row['error']}"
    steps = median(row["steps"]) if row["steps"] else float("nan")
    return (
        f"{name}: ready {row['ready']:.1f} s, first step {row['first_step']:.1f} s, "
        f"a step {steps:.2f} s, image {row['image']:.1f} s, {row['peak_mib']} MiB"
    )
