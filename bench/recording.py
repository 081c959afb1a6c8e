"""Rows of measurements: one JSON line each in bench/results/, and a table on the terminal."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import statistics
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from sdrt_engines.processor import this_processor

RESULTS = Path(__file__).parent / "results"

# Without bytecode every import would compile again, unlike in users' processes.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)


@dataclass(frozen=True)
class Measurement:
    """One measured quantity: `values` are all samples, in the order of measurement."""

    name: str
    unit: str
    values: tuple[float, ...]
    versions: Mapping[str, str] = field(default_factory=dict)  # of the measured packages
    notes: Mapping[str, Any] = field(default_factory=dict)  # settings, targets, ratios

    @property
    def median(self) -> float:
        return statistics.median(self.values)

    @property
    def quartiles(self) -> tuple[float, float]:
        """The spread: half of the values lie between these two."""
        if len(self.values) == 1:
            return self.values[0], self.values[0]
        low, _, high = statistics.quantiles(self.values, n=4, method="inclusive")
        return low, high


def record(bench: str, measurements: Sequence[Measurement]) -> None:
    """Appends a row per measurement to results/<bench>.jsonl and prints them."""
    append_rows(bench, [row(bench, measurement) for measurement in measurements])
    Console().print(table(bench, measurements))


def append_rows(bench: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Appends rows to results/<bench>.jsonl, with the date and the machine."""
    RESULTS.mkdir(exist_ok=True)
    common = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "machine": machine()}
    with (RESULTS / f"{bench}.jsonl").open("a", encoding="utf-8") as file:
        for each in rows:
            file.write(json.dumps({**each, **common}, ensure_ascii=False) + "\n")


def row(bench: str, measurement: Measurement) -> dict[str, Any]:
    """A measurement as the object of a line in results/."""
    return {
        "bench": bench,
        "name": measurement.name,
        "unit": measurement.unit,
        "median": round(measurement.median, 6),
        "quartiles": [round(value, 6) for value in measurement.quartiles],
        "num_runs": len(measurement.values),
        "notes": dict(measurement.notes),
        "versions": dict(measurement.versions),
    }


def table(bench: str, measurements: Sequence[Measurement]) -> Table:
    """The measurements as a table for people."""
    result = Table("", "median", "half of the runs", "runs", "notes", title=bench)
    for measurement in measurements:
        low, high = measurement.quartiles
        notes = ", ".join(f"{name} {value}" for name, value in measurement.notes.items())
        result.add_row(
            measurement.name,
            f"{readable(measurement.median)} {measurement.unit}",
            f"{readable(low)} to {readable(high)}",
            str(len(measurement.values)),
            notes,
        )
    return result


def readable(value: float) -> str:
    """A number with three digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


@contextmanager
def alone_on_the_machine() -> Iterator[None]:
    """Runs the block while no other measurement runs on this machine."""
    with Path(tempfile.gettempdir(), "sdrt-bench.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def machine() -> dict[str, Any]:
    """The hardware that the figures were measured on."""
    return {
        "cpu": this_processor().name,
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
    }
