"""Faults: thousands of damaged bundles, wrong requests, strange files and kills, each judged.

Prints a row for each area, and the cases that are neither right nor one clear line; appends the
rows to bench/results/faults.jsonl. The same seed gives the same cases. Exit code 1 if one is bad.
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recording import append_rows
from rich.console import Console
from rich.table import Table

from fuzzing.areas import AREAS, Area
from fuzzing.bundles import Place
from fuzzing.outcomes import BAD, GOOD, Case
from sdrt import NoteWarning
from sdrt_engines.packages import installed_versions
from support.signals import end_by_signals


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--share", type=float, default=1, help="of the cases, 0.05 for a try")
    parser.add_argument("--only", action="append", help="areas; default: all")
    parser.add_argument("--list", action="store_true", help="print every case")
    parser.add_argument("--no-record", action="store_true", help="append no rows")
    options = parser.parse_args()
    end_by_signals()
    warnings.simplefilter("ignore", NoteWarning)  # those that cases ask for are read by `call`
    wanted = [area for area in AREAS if not options.only or area.name in options.only]
    with tempfile.TemporaryDirectory(prefix="sdrt-faults-") as work:
        before = Path.cwd()
        os.chdir(work)  # some options are names of files to write
        os.environ["SDRT_CACHE"] = str(Path(work, "cache"))
        place = Place(Path(work), random.Random(), options.share)
        found = {area: _cases_of(area, place, options) for area in wanted}
        os.chdir(before)
    _print(found)
    if not options.no_record:
        _record(found, options)
    return any(case.kind in BAD for cases, _ in found.values() for case in cases)


def _cases_of(area: Area, place: Place, options: argparse.Namespace) -> tuple[list[Case], float]:
    """The judged cases of an area, and its seconds; each area has its own random numbers."""
    place.random = random.Random(f"{options.seed} {area.name}")
    begin, cases = time.monotonic(), []
    for case in area.cases(place):
        cases.append(case)
        if options.list or case.kind in BAD:
            print(f"{area.name}: {case.kind}: {case.name}: {case.detail}", flush=True)
    seconds = time.monotonic() - begin
    bad = sum(case.kind in BAD for case in cases)
    print(f"{area.name}: {len(cases)} cases, {bad} bad, {seconds:.0f} s", flush=True)
    return cases, seconds


def _print(found: dict[Area, tuple[list[Case], float]]) -> None:
    table = Table("", "cases", *GOOD, *BAD, "seconds")
    for area, (cases, seconds) in found.items():
        counts = Counter(case.kind for case in cases)
        cells = (str(counts[kind] or "") for kind in (*GOOD, *BAD))
        table.add_row(area.name, str(len(cases)), *cells, f"{seconds:.0f}")
    Console(width=160).print(table)


def _record(found: dict[Area, tuple[list[Case], float]], options: argparse.Namespace) -> None:
    notes = {
        "seed": options.seed,
        "share": options.share,
        "complete": not options.only and options.share >= 1,
    }
    versions = installed_versions("sdrt", "onnxruntime", "openvino")
    append_rows(
        "faults",
        (
            {
                "bench": "faults",
                "name": area.name,
                "cases": len(cases),
                "counts": _counts(cases),
                "seconds": round(seconds, 1),
                "notes": notes,
                "versions": versions,
            }
            for area, (cases, seconds) in found.items()
        ),
    )


def _counts(cases: Iterable[Case]) -> dict[str, int]:
    counts = Counter(case.kind for case in cases)
    return {kind: counts[kind] for kind in (*GOOD, *BAD)}


if __name__ == "__main__":
    sys.exit(main())
