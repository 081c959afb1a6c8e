"""Checks docs/faults.md: every fault of the four lists has a row, and every named test exists.

    python tools/faults.py

A row ends with its tests, with "part 2" (it is being worked on), or with "open".
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parent.parent
PAGE = Path("docs", "faults.md")

# The numbers of each list; of the reports only those about what sdrt does already.
LISTS: Mapping[str, tuple[int, ...]] = {
    "use": tuple(range(1, 21)),
    "review": tuple(range(1, 26)),
    "reports": (1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 17, 18, 25, 29),
    "newcomer": tuple(range(1, 21)),
}
WITHOUT_TESTS = ("part 2", "open")

_LIST = re.compile(r"<!-- faults: (\w+) -->\n(.*?)(?=<!-- faults:|\Z)", re.DOTALL)
_ROW = re.compile(r"^\| (\d+) \|(.*)\| ([^|]*) \|$", re.MULTILINE)
_TEST = re.compile(r"`([\w/]+\.py)::(\w+)`")


def complaints_about(text: str, root: Path = ROOT) -> Iterator[str]:
    """The faults of the page itself, a line for each."""
    found = {match[1]: match[2] for match in _LIST.finditer(text)}
    for name, numbers in LISTS.items():
        rows = {int(row[1]): row[3] for row in _ROW.finditer(found.get(name, ""))}
        for number in sorted({*numbers} - rows.keys()):
            yield f"{name} {number}: no row"
        for number in sorted(rows.keys() - {*numbers}):
            yield f"{name} {number}: the list has no such number"
        for number, cell in rows.items():
            yield from (f"{name} {number}: {reason}" for reason in _complaints(cell, root))


def _complaints(cell: str, root: Path) -> Iterator[str]:
    tests = _TEST.findall(cell)
    if not tests and cell not in WITHOUT_TESTS:
        yield f"got {cell!r}, expected tests or one of {', '.join(WITHOUT_TESTS)}"
    for file, name in tests:
        if name not in _functions_of(root / file):
            yield f"{file} has no test {name}"


@cache
def _functions_of(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def main() -> int:
    """Prints the complaints and how many rows are open; the exit code."""
    text = (ROOT / PAGE).read_text(encoding="utf-8")
    complaints = list(complaints_about(text))
    for complaint in complaints:
        print(f"{PAGE}: {complaint}")
    cells = [row[3] for row in _ROW.finditer(text)]
    counts = ", ".join(f"{cells.count(word)} {word}" for word in WITHOUT_TESTS)
    print(f"{len(cells)} faults: {counts}")
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main())
