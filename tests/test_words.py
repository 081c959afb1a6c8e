"""The words that `make check` rejects, and the texts in which it looks for them."""

from __future__ import annotations

from pathlib import Path

import pytest

from words import Finding, findings_in_page, findings_in_source, findings_in_test, main


def found(text: str) -> list[str]:
    """The rejected phrases of a Markdown page."""
    return [finding.phrase for finding in findings_in_page(text)]


@pytest.mark.parametrize(
    "phrase",
    [
        "told",
        "tells",
        "beside",
        "Besides",
        "shall",
        "anew",
        "dear",
        "so called",
        "so-called",
        "pictures",
        "is none",
        "are no",
        "no whole",
        "can't",
        "it's",
    ],
)
def test_rejected_phrases(phrase: str) -> None:
    assert phrase in found(f"Here {phrase} one.")


@pytest.mark.parametrize(
    "text",
    [
        "there is no file",
        "there are no plans",
        "it is no longer open",
        "the value is None",
        "a lodestar, Dearborn, retold",
        "the checkpoint's file",
        "`picture` and `it's code`",
        "```\nno whole picture\n```",
    ],
)
def test_accepted_texts(text: str) -> None:
    assert found(text) == []


def test_a_phrase_over_two_lines_has_the_first_one_s_number() -> None:
    assert list(findings_in_page("\nA file is\nnone.")) == [
        Finding(2, "is none", "is not a, there is no")
    ]


@pytest.mark.parametrize("opening", ["What", "Whether", "How", "Which", "Where", "Whose", "Of"])
def test_a_docstring_does_not_open_with_a_relative_clause(opening: str) -> None:
    code = f'def f():\n    """{opening} it gives."""\n'
    assert [finding.line for finding in findings_in_test(code)] == [2]
    assert list(findings_in_test(code.replace(opening, "The"))) == []


def test_docstrings_have_single_backticks() -> None:
    (finding,) = findings_in_test('"""The ``x``."""\n')
    assert finding.instead == "single backticks"


def test_the_parts_of_a_source() -> None:
    code = (
        '"""A picture."""\n'
        "# It is\n"
        "# none.\n"
        "x = 1  # dear\n"
        "\n"
        "def is_told(beside_it):\n"
        '    raise ValueError(f"{x} shall not")\n'
    )
    assert sorted((finding.line, finding.phrase) for finding in set(findings_in_source(code))) == [
        (1, "picture"),
        (2, "is none"),
        (4, "dear"),
        (6, "beside"),
        (6, "told"),
        (7, "shall"),
    ]


def test_literals_of_tests_are_not_read() -> None:
    assert list(findings_in_test('prompt = "a picture"\n')) == []


def test_findings_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime/a.py").write_text('"""Which one."""\n')
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/b.md").write_text("# A\n\nA picture.\n")
    assert main(tmp_path) == 1
    assert capsys.readouterr().out.splitlines() == [
        "runtime/a.py:1: 'Which', expected: a noun phrase or a verb in the third person",
        "docs/b.md:3: 'picture', expected: image",
    ]


def test_a_house_without_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(tmp_path) == 0
    assert capsys.readouterr().out == ""
