"""The measures and the limits of `make measure`."""

from __future__ import annotations

from pathlib import Path

import pytest

import measure
from measure import Length, Limits, excesses, functions_of, main, statistics_of


def package(root: Path, text: str) -> Path:
    """A repository whose one file has this text."""
    folder = root / "runtime" / "sdrt"
    folder.mkdir(parents=True)
    (folder / "a.py").write_text(text, encoding="utf-8")
    return root


def function(name: str, num_lines: int) -> str:
    return f"def {name}():\n" + "    pass\n" * (num_lines - 1)


def test_a_function_ends_with_its_last_line(tmp_path: Path) -> None:
    text = '''@property
def outer(
    self,
):
    """Two
    lines."""

    async def inner():
        return 1

    return inner  # comments after it do not count

    # such as this one


class Class:
    def method(self): return 1
'''
    assert {(f.name.split(": ")[1], f.lines) for f in functions_of(package(tmp_path, text))} == {
        ("outer", 10),
        ("inner", 2),
        ("method", 1),
    }


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ([5], (5, 5, 5)),
        ([3, 1, 2], (2, 3, 3)),
        ([*range(1, 11)], (5.5, 10, 10)),
        ([*range(1, 12)], (6, 10, 11)),
    ],
)
def test_median_90th_percentile_and_maximum(
    lines: list[int], expected: tuple[float, int, int]
) -> None:
    assert statistics_of([Length("f", n) for n in lines]) == expected


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([9, 9, 9], "functions: median 9, expected 8 at most"),
        ([8, 8, 21], "functions: 90th percentile 21, expected 20 at most"),
        ([41, *[1] * 19], "f: 41 lines, expected 40 at most"),
    ],
)
def test_what_is_exceeded(lines: list[int], message: str) -> None:
    lengths = [Length("f", n) for n in lines]
    assert list(excesses("functions", lengths, Limits(40, 8, 20))) == [message]


def test_the_limits_themselves_are_allowed() -> None:
    lengths = [Length("f", n) for n in [*[8] * 17, 20, 20, 40]]
    assert list(excesses("functions", lengths, Limits(40, 8, 20))) == []


def test_a_table_may_be_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "TABLES", {"a.py"})
    assert list(excesses("files", [Length("a.py", 301)], Limits(300))) == []


def test_offenders_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    short = "".join(function(f"f{i}", 2) for i in range(20))
    assert main(package(tmp_path, short + function("long", 41) + "x = 1\n" * 240)) == 1
    assert capsys.readouterr().out.splitlines() == [
        "functions: median 2, 90th percentile 2, longest 41 lines",
        "files: median 321, 90th percentile 321, longest 321 lines",
        "runtime/sdrt/a.py:41: long: 41 lines, expected 40 at most",
        "runtime/sdrt/a.py: 321 lines, expected 300 at most",
    ]


def test_a_house_within_its_limits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(package(tmp_path, function("f", 8))) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2
