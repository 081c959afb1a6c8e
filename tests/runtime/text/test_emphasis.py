"""A1111's weights, case by case. The cases of `A1111S_OWN` are those of its own documentation."""

from __future__ import annotations

import math
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdrt.errors import RequestError
from sdrt.text.emphasis import (
    BREAK,
    Segment,
    has_weighted_break,
    segments_from_text,
    unclosed_bracket,
)

Weighted = list[tuple[str, float]]
A1111S_OWN: list[tuple[str, Weighted]] = [
    ("normal text", [("normal text", 1)]),
    ("an (important) word", [("an ", 1), ("important", 1.1), (" word", 1)]),
    ("(unbalanced", [("unbalanced", 1.1)]),
    (r"\(literal\]", [("(literal]", 1)]),
    ("(unnecessary)(parens)", [("unnecessaryparens", 1.1)]),
    (
        "a (((house:1.3)) [on] a (hill:0.5), sun, (((sky))).",
        [
            ("a ", 1),
            ("house", 1.573),
            (" ", 1.1),
            ("on", 1),
            (" a ", 1.1),
            ("hill", 0.55),
            (", sun, ", 1.1),
            ("sky", 1.4641),
            (".", 1.1),
        ],
    ),
]
CASES: list[tuple[str, Weighted]] = [
    *A1111S_OWN,
    ("", [("", 1)]),
    ("   ", [("   ", 1)]),
    ("[b]", [("b", 1 / 1.1)]),
    ("((b))", [("b", 1.21)]),
    ("([b])", [("b", 1)]),
    ("a (b:1.2) c", [("a ", 1), ("b", 1.2), (" c", 1)]),
    ("(b: 1.2 )", [("b", 1.2)]),
    ("(a (b:1.5) c:2)", [("a ", 2), ("b", 3), (" c", 2)]),
    ("(b:0)", [("b", 0)]),
    ("(b:-0.5)", [("b", -0.5)]),
    ("(b:+2)", [("b", 2)]),
    ("(b:.5)", [("b", 0.5)]),
    ("a (b:1.0) c", [("a b c", 1)]),  # one segment: the same tokens as without brackets
    # no weight
    ("(b:)", [("b:", 1.1)]),
    ("(b:x)", [("b:x", 1.1)]),
    ("(b:1e3)", [("b:1e3", 1.1)]),
    ("(b:nan)", [("b:nan", 1.1)]),
    ("b:1.2)", [("b:1.2)", 1)]),
    ("[b:1.2]", [("b:1.2", 1 / 1.1)]),
    ("ratio 1:2", [("ratio 1:2", 1)]),
    # brackets without a partner
    ("b)", [("b)", 1)]),
    ("b]", [("b]", 1)]),
    ("[b", [("b", 1 / 1.1)]),
    ("(a [b) c]", [("a ", 1.1), ("b", 1), (" c", 1 / 1.1)]),
    ("name (title (fate)", [("name ", 1), ("title ", 1.1), ("fate", 1.21)]),
    # escapes
    (r"name \(title \(fate\)\)", [("name (title (fate))", 1)]),
    (r"a \[b\] \\ c", [(r"a [b] \ c", 1)]),
    (r"(\(b\):1.5)", [("(b)", 1.5)]),
    ("a \\b \\", [("a b ", 1)]),  # a lone backslash disappears
    # breaks
    ("a BREAK b", [("a", 1), (BREAK, -1), ("b", 1)]),
    ("a  BREAK\n BREAK b", [("a", 1), (BREAK, -1), ("", 1), (BREAK, -1), ("b", 1)]),
    ("BREAK a BREAK", [("", 1), (BREAK, -1), ("a", 1), (BREAK, -1), ("", 1)]),
    ("BREAKFAST break", [("BREAKFAST break", 1)]),
    ("a, BREAK, (b)", [("a,", 1), (BREAK, -1), (", ", 1), ("b", 1.1)]),
    ("(a BREAK b)", [("a", 1.1), (BREAK, -1.1), ("b", 1.1)]),  # a word, as in A1111
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_weights(text: str, expected: Weighted) -> None:
    got = segments_from_text(text)
    assert [segment.text for segment in got] == [words for words, _ in expected]
    assert [segment.weight for segment in got] == pytest.approx([weight for _, weight in expected])


def test_only_a_break_outside_of_brackets_is_one() -> None:
    assert [each.is_break for each in segments_from_text("a BREAK b")] == [False, True, False]
    assert not any(each.is_break for each in segments_from_text("(a BREAK b)"))
    assert not Segment("a", -1).is_break
    assert has_weighted_break("a [b BREAK c]")
    assert not has_weighted_break("a BREAK (b)")


@pytest.mark.parametrize(
    ("text", "bracket"),
    [("(a", "("), ("a [b", "["), ("(a) [b]", None), ("a) b]", None), (r"\(a", None)],
)
def test_a_bracket_that_is_not_closed_is_found(text: str, bracket: str | None) -> None:
    assert unclosed_bracket(text) == bracket


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(b:1.2.3)", "negative_prompt: got the weight '1.2.3', expected a number"),
        ("(b:.)", r"negative_prompt: got the weight '\.', expected a number"),
        ("(b:1001)", "negative_prompt: the brackets give a weight of 1001, expected 1000 at most"),
        ("(b:-1001)", "negative_prompt: the brackets give a weight of 1001"),
        ("((b:100):100)", "negative_prompt: the brackets give a weight of 10000"),
        (f"(b:{'9' * 400})", "negative_prompt: the brackets give a weight of inf"),
        (f"((b:{'9' * 400}):0)", "negative_prompt: the brackets give a weight of nan"),
        ("(" * 9999, "negative_prompt: the brackets give a weight of"),
    ],
)
def test_weights_that_cannot_be_are_refused(text: str, message: str) -> None:
    with pytest.raises(RequestError, match=message):
        segments_from_text(text + "b", "negative_prompt")


@pytest.mark.parametrize(
    "text",
    [
        "(" * 3000 + "b" + ":1)" * 2000,
        "([" * 2500 + "b" + "])" * 2500,
        "a BREAK " * 1250,
        " " * 9990 + "BREAK",
        ":" * 10_000,
        ": " * 5000,
        "\\" * 10_000,
        "(a)" * 3333,
    ],
)
def test_much_of_anything_is_read_in_time(text: str) -> None:
    start = time.process_time()
    try:
        segments_from_text(text)
    except RequestError as error:
        assert "the brackets give a weight of" in str(error)
    assert time.process_time() - start < 5  # seconds: a search from each place would take minutes


pieces = st.sampled_from([*"()[]:\\| ", ":1.2)", "BREAK", "AND", "a", "é", "1", "-"])


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(pieces, max_size=20))
def test_no_words_are_lost(parts: list[str]) -> None:
    text = "".join(parts)
    read = "".join(segment.text for segment in segments_from_text(text))
    for letter in "aé":
        assert read.count(letter) == text.count(letter)


WORDS = re.compile(r"[ab]|[()\[\]]|:[\d.]+\)")


def weights_by_brackets(text: str) -> list[tuple[str, float]]:
    """Each letter with the product of the factors of all brackets around it."""
    open_at: dict[str, list[int]] = {"(": [], "[": []}
    spans: list[tuple[int, int, float]] = []
    found = list(WORDS.finditer(text))
    for place, match in enumerate(found):
        piece = match[0]
        if piece in open_at:
            open_at[piece].append(place)
        elif piece == "]" and open_at["["]:
            spans.append((open_at["["].pop(), place, 1 / 1.1))
        elif piece[-1] == ")" and open_at["("]:
            factor = float(piece[1:-1]) if len(piece) > 1 else 1.1
            spans.append((open_at["("].pop(), place, factor))
    for bracket, factor in (("(", 1.1), ("[", 1 / 1.1)):
        spans += ((place, len(found), factor) for place in open_at[bracket])
    return [
        (match[0], math.prod(factor for begin, end, factor in spans if begin < place < end))
        for place, match in enumerate(found)
        if match[0] in "ab"
    ]


@settings(derandomize=True, deadline=None, max_examples=300)
@given(st.lists(st.sampled_from([*"ab()[]", ":0.5)", ":2)", "(", "["]), max_size=18))
def test_weights_are_the_products_of_the_brackets_around(parts: list[str]) -> None:
    text = "".join(parts)
    read = [
        (letter, segment.weight)
        for segment in segments_from_text(text)
        for letter in segment.text
        if letter in "ab"
    ]
    expected = weights_by_brackets(text)
    assert [letter for letter, _ in read] == [letter for letter, _ in expected]
    assert [weight for _, weight in read] == pytest.approx([weight for _, weight in expected])
