"""A1111's prompt editing, case by case: the last step of each text, of ten."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdrt.text.editing import EditedText, edited_texts

Texts = list[tuple[int, str]]
A1111S_OWN: list[tuple[str, Texts]] = [
    ("test", [(10, "test")]),
    ("a [b:3]", [(3, "a "), (10, "a b")]),
    ("a [b: 3]", [(3, "a "), (10, "a b")]),
    ("a [[[b]]:2]", [(2, "a "), (10, "a [[b]]")]),
    ("[(a:2):3]", [(3, ""), (10, "(a:2)")]),
    ("a [b : c : 1] d", [(1, "a b  d"), (10, "a  c  d")]),
    ("a[b:[c:d:2]:1]e", [(1, "abe"), (2, "ace"), (10, "ade")]),
    ("a [unbalanced", [(10, "a [unbalanced")]),
    ("a [b:.5] c", [(5, "a  c"), (10, "a b c")]),
    ("((a][:b:c [d:3]", [(3, "((a][:b:c "), (10, "((a][:b:c d")]),
    ("[a|(b:1.1)]", [(step, ("(b:1.1)", "a")[step % 2]) for step in range(1, 11)]),
    ("[fe|]male", [(step, ("male", "female")[step % 2]) for step in range(1, 11)]),
    ("[fe|||]male", [(step, "female" if step % 4 == 1 else "male") for step in range(1, 11)]),
]
CASES: list[tuple[str, Texts]] = [
    *A1111S_OWN,
    ("a [b:c:0.25] d", [(2, "a b d"), (10, "a c d")]),
    ("a [b::4]", [(4, "a b"), (10, "a ")]),
    ("[b:c:3 ]", [(3, "b"), (10, "c")]),
    # numbers: a point makes a share of the steps
    ("[b:c:1]", [(1, "b"), (10, "c")]),
    ("[b:c:1.0]", [(10, "b")]),
    ("[b:c:0]", [(10, "c")]),
    ("[b:c:0.0]", [(10, "c")]),
    ("[b:c:-1]", [(10, "c")]),
    ("[b:c:99]", [(10, "b")]),
    ("[b:c:1e999]", [(10, "b")]),
    ("[b:c:-1e999]", [(10, "c")]),
    ("[b:c:1e-1]", [(10, "c")]),
    # nesting
    (
        "[a:[b|c]:8]",
        [*((step, "a") for step in range(1, 9)), (9, "b"), (10, "c")],
    ),
    ("[[a:b:2]:[c:d:4]:3]", [(2, "a"), (3, "b"), (4, "c"), (10, "d")]),
    ("(a [b:c:3]:1.3)", [(3, "(a b:1.3)"), (10, "(a c:1.3)")]),
    ("(a:[1.1:1.5:3])", [(3, "(a:1.1)"), (10, "(a:1.5)")]),
    # no edits
    ("[b]", [(10, "[b]")]),
    ("(b:1.2)", [(10, "(b:1.2)")]),
    ("[b:c]", [(10, "[b:c]")]),
    ("[b:c:x]", [(10, "[b:c:x]")]),
    ("[b:c:d:3]", [(10, "[b:c:d:3]")]),
    (r"a \[b:c:3\]", [(10, r"a \[b:c:3\]")]),
    (r"[b\:c:3]", [(3, ""), (10, r"b\:c")]),
    ("[(b:c:d):3]", [(10, "[(b:c:d):3]")]),
    ("[[b:c]:3]", [(10, "[[b:c]:3]")]),
    ("[b:c:3] (d:e:f) [g:4]", [(3, "b (d:e:f) "), (4, "c (d:e:f) "), (10, "c (d:e:f) g")]),
    ("(a [b:c:3] d", [(3, "(a b d"), (10, "(a c d")]),
    # a bar outside of its brackets: nothing is an edit
    ("a | b [c:d:3]", [(10, "a | b [c:d:3]")]),
    ("(a|b) [c:d:3]", [(10, "(a|b) [c:d:3]")]),
    ("[a|b:3]", [(10, "[a|b:3]")]),
    ("[a|b [c:d:3]", [(10, "[a|b [c:d:3]")]),
    ("[(a:b:c)|d]", [(10, "[(a:b:c)|d]")]),
    ("[c:d:3] \\", [(10, "[c:d:3] \\")]),
]


@pytest.mark.parametrize(("text", "expected"), CASES)
def test_edits(text: str, expected: Texts) -> None:
    assert edited_texts(text, 10) == tuple(EditedText(*each) for each in expected)


def test_a_text_for_each_step_of_one() -> None:
    assert edited_texts("[a|b]", 1) == (EditedText(1, "a"),)
    assert edited_texts("[a:b:0.5]", 1) == (EditedText(1, "b"),)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 2500 + "a" + ":1]" * 2500,
        "[" * 10_000,
        "]" * 10_000,
        "(" * 5000 + ")" * 5000,
        "[a:b:5]" * 1428,
        "[" + "|" * 9998 + "]",
        "[" * 3333 + "a" + "|]" * 3333,
        "\\" * 10_000,
        ":" * 10_000,
    ],
)
def test_much_of_anything_is_read_in_time(text: str) -> None:
    start = time.process_time()
    texts = edited_texts(text, 10)
    assert texts[-1].until == 10
    assert time.process_time() - start < 5  # seconds: it takes 0.05


pieces = st.sampled_from([*"()[]:\\| ", ":3]", ":0.5]", "[a:b:", "[a|", "a", "b", "3", "-"])


@settings(derandomize=True, deadline=None, max_examples=200)
@given(st.lists(pieces, max_size=20), st.integers(1, 30))
def test_any_text_is_a_schedule(parts: list[str], num_steps: int) -> None:
    text = "".join(parts)
    steps = [each.until for each in edited_texts(text, num_steps)]
    assert steps == sorted(set(steps)) and steps[0] >= 1 and steps[-1] == num_steps


@dataclass(frozen=True)
class Prompt:
    """A prompt, and what it says at a step."""

    text: str
    at: Callable[[int], str]


def word(text: str) -> Prompt:
    return Prompt(text, lambda step: text)


def joined(parts: Sequence[Prompt]) -> Prompt:
    return Prompt(
        "".join(part.text for part in parts), lambda step: "".join(part.at(step) for part in parts)
    )


def weighted(inner: Prompt, brackets: str) -> Prompt:
    begin, end = brackets.split()
    return Prompt(f"{begin}{inner.text}{end}", lambda step: f"{begin}{inner.at(step)}{end}")


def replaced(before: Prompt, after: Prompt, when: int) -> Prompt:
    text = f"[{before.text}:{after.text}:{when}]"
    return Prompt(text, lambda step: (before if step <= when else after).at(step))


def added(after: Prompt, when: int) -> Prompt:
    return Prompt(f"[{after.text}:{when}]", lambda step: after.at(step) if step > when else "")


def in_turn(options: Sequence[Prompt]) -> Prompt:
    text = "|".join(option.text for option in options)
    return Prompt(f"[{text}]", lambda step: options[(step - 1) % len(options)].at(step))


steps = st.integers(0, 12)
prompts = st.recursive(
    st.sampled_from(["a", "b c", " d ", "e,"]).map(word),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3).map(joined),
        st.builds(weighted, inner, st.sampled_from(["( )", "[ ]", "( :1.2)"])),
        st.builds(replaced, inner, inner, steps),
        st.builds(added, inner, steps),
        st.lists(inner, min_size=2, max_size=3).map(in_turn),
    ),
    max_leaves=12,
)


@settings(derandomize=True, deadline=None, max_examples=200)
@given(prompts, st.integers(1, 10))
def test_each_step_has_the_text_that_its_edits_say(prompt: Prompt, num_steps: int) -> None:
    texts = edited_texts(prompt.text, num_steps)
    for step in range(1, num_steps + 1):
        read = next(each.text for each in texts if step <= each.until)
        assert read == prompt.at(step)
