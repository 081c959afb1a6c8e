"""docs/faults.md has every fault, and the tests that it names exist."""

from __future__ import annotations

from pathlib import Path

import pytest

from faults import LISTS, PAGE, ROOT, complaints_about

PAGE_TEXT = (ROOT / PAGE).read_text(encoding="utf-8")


def page(cell: str = "part 2") -> str:
    """A complete page whose rows all end with this cell."""
    lists = (
        f"<!-- faults: {name} -->\n" + "".join(f"| {i} | a | b | {cell} |\n" for i in numbers)
        for name, numbers in LISTS.items()
    )
    return "\n".join(lists)


def test_the_page_is_complete() -> None:
    assert list(complaints_about(PAGE_TEXT)) == []


def test_a_missing_number_and_one_too_many_are_named() -> None:
    text = page().replace("| 7 | a | b | part 2 |\n", "| 77 | a | b | part 2 |\n", 1)
    assert list(complaints_about(text)) == ["use 7: no row", "use 77: the list has no such number"]


def test_a_whole_list_may_be_missing() -> None:
    text = page().replace("<!-- faults: reports -->", "")
    assert f"reports {LISTS['reports'][0]}: no row" in list(complaints_about(text))


@pytest.mark.parametrize(
    ("cell", "complaint"),
    [
        ("done", "got 'done', expected tests or one of part 2, open"),
        ("`tests/none.py::test_a`", "tests/none.py has no test test_a"),
        ("`tests/a.py::test_b`<br>`tests/a.py::test_a`", "tests/a.py has no test test_b"),
    ],
)
def test_a_cell_names_tests_that_exist(cell: str, complaint: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/a.py").write_text("def test_a(): ...\n")
    found = set(complaints_about(page(cell), tmp_path))
    assert {line.partition(": ")[2] for line in found} == {complaint}
