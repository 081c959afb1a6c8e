"""Soak: thousands of requests from many threads, cancelled, late, wrong, on targets that fail and
pipelines that are closed and opened; each image is compared with that of the same request alone.

Prints a row for each target and each bar; appends them to bench/results/soak.jsonl. The same seed
gives the same operations. Exit code 1 if a bar does not hold, 3 if an operation hangs.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from recording import append_rows
from rich.console import Console
from rich.table import Table

from sdrt_engines.packages import installed_versions
from soak.bars import Bar, bars_of, endings, tenth
from soak.operations import BAD_ENDINGS, GOOD
from soak.pipelines import installed_targets
from soak.process import limit_malloc
from soak.soaking import Report, Settings, soaked


def main() -> int:
    settings, is_recorded = _settings()
    limit_malloc()
    with tempfile.TemporaryDirectory(prefix="sdrt-soak-") as cache:
        os.environ["SDRT_CACHE"] = cache
        report = soaked(settings)
    bars = bars_of(report)
    _print(report, settings, bars)
    if is_recorded:
        append_rows("soak", _rows(report, settings, bars))
    return 0 if all(bar.holds for bar in bars) else 1


def _settings() -> tuple[Settings, bool]:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=10_000)
    parser.add_argument("--requests", type=int, default=200, help="that differ")
    parser.add_argument("--threads", type=int, default=16)
    parser.add_argument("--target", action="append", help="default: all that are installed")
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--only", type=int, help="repeat one operation")
    parser.add_argument("--no-record", action="store_true", help="append no rows")
    options = parser.parse_args()
    settings = Settings(
        options.bundle,
        options.target or installed_targets(),
        seed=options.seed,
        num_operations=options.operations,
        num_requests=options.requests,
        num_threads=options.threads,
        only=options.only,
    )
    return settings, not options.no_record and options.only is None


def _print(report: Report, settings: Settings, bars: Sequence[Bar]) -> None:
    table = Table("", *GOOD, *BAD_ENDINGS, title="soak")
    for target in settings.targets:
        table.add_row(target, *(str(number or "") for number in endings(report, target).values()))
    Console(width=120).print(table)
    print("MB by tenths:", *_megabytes(report))
    for line in report.uncaught:
        print(f"uncaught: {line}")
    for bar in bars:
        print(f"{'good' if bar.holds else 'BAD '} {bar.name}: {bar.found}")


def _megabytes(report: Report) -> list[float]:
    """The memory in each tenth of the time."""
    return [round(tenth(report.memory, index), 1) for index in range(10)]


def _rows(report: Report, settings: Settings, bars: Sequence[Bar]) -> list[dict[str, Any]]:
    notes = {
        "seed": settings.seed,
        "threads": settings.num_threads,
        "requests": settings.num_requests,
        "operations": settings.num_operations,
        "minutes": round(report.seconds / 60, 2),
        "bars": {bar.name: bar.found for bar in bars},
        "megabytes": _megabytes(report),
    }
    versions = installed_versions("sdrt", "onnxruntime", "openvino")
    return [
        {
            "bench": "soak",
            "name": target,
            "counts": endings(report, target),
            "notes": notes,
            "versions": versions,
        }
        for target in settings.targets
    ]


if __name__ == "__main__":
    sys.exit(main())
