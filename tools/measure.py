"""Measures the lengths of functions and files. Exits with 1 if a limit is exceeded.

    python tools/measure.py [ROOT]

A function's length is counted from its `def` to its last line, docstring included.
"""

from __future__ import annotations

import ast
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

PACKAGES = ("engines/sdrt_engines", "runtime/sdrt", "export/sdrt_export")
TABLES = frozenset({"runtime/sdrt/parameters.py"})  # files of data that may be longer


@dataclass(frozen=True)
class Length:
    """A function or a file, and how many lines it has."""

    name: str
    lines: int


@dataclass(frozen=True)
class Limits:
    """The lengths that are allowed, in lines; None allows any."""

    longest: int
    median: int | None = None
    p90: int | None = None


FUNCTIONS = Limits(median=8, p90=20, longest=40)
FILES = Limits(longest=300)


def files_of(root: Path) -> list[Length]:
    """Every file of the packages under `root`."""
    return [
        Length(str(path.relative_to(root)), len(path.read_text(encoding="utf-8").splitlines()))
        for path in _paths(root)
    ]


def functions_of(root: Path) -> list[Length]:
    """Every function and method of the packages under `root`, those inside others too."""
    return [
        Length(f"{path.relative_to(root)}:{node.lineno}: {node.name}", _lines(node))
        for path in _paths(root)
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]


def summary(kind: str, lengths: Sequence[Length]) -> str:
    """One line: median, 90th percentile and maximum."""
    median, p90, longest = statistics_of(lengths)
    return f"{kind}: median {median:g}, 90th percentile {p90}, longest {longest} lines"


def statistics_of(lengths: Sequence[Length]) -> tuple[float, int, int]:
    """The median, the 90th percentile and the maximum."""
    lines = sorted(length.lines for length in lengths)
    return statistics.median(lines), lines[int(0.9 * len(lines))], lines[-1]


def excesses(kind: str, lengths: Sequence[Length], limits: Limits) -> Iterator[str]:
    """A line for each limit that is exceeded, and for each function or file that is too long."""
    median, p90, _ = statistics_of(lengths)
    for name, value, limit in (
        ("median", median, limits.median),
        ("90th percentile", p90, limits.p90),
    ):
        if limit is not None and value > limit:
            yield f"{kind}: {name} {value:g}, expected {limit} at most"
    for length in lengths:
        if length.lines > limits.longest and length.name not in TABLES:
            yield f"{length.name}: {length.lines} lines, expected {limits.longest} at most"


def main(root: Path) -> int:
    """Prints the measures; the exit code."""
    exceeded: list[str] = []
    for kind, lengths, limits in (
        ("functions", functions_of(root), FUNCTIONS),
        ("files", files_of(root), FILES),
    ):
        print(summary(kind, lengths))
        exceeded += excesses(kind, lengths, limits)
    for line in exceeded:
        print(line)
    return 1 if exceeded else 0


def _paths(root: Path) -> list[Path]:
    return sorted(path for package in PACKAGES for path in (root / package).rglob("*.py"))


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    assert node.end_lineno is not None  # of nodes that were parsed
    return node.end_lineno - node.lineno + 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent.parent))
