"""The generated tables of docs/prompts.md: examples of A1111's syntax, as the parsers read them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from docs_reference import code, table
from sdrt.text.editing import EditedText, edited_texts
from sdrt.text.emphasis import Segment, segments_from_text

NUM_STEPS = 10
WEIGHTS = (
    "a (red) circle",
    "a ((red)) circle",
    "a [red] circle",
    "a (red:1.4) circle",
    "a (red:0.5) circle",
    "(a (red:1.5) circle:2)",
    "(a red:1.4) (circle:1.4)",
    r"a \(red\) circle",
    "(red:)",
    "(red:high)",
    "red:1.4)",
    "a (red circle",
    "a red) circle",
    "a red circle BREAK on white",
    "(a BREAK b)",
)
EDITS = (
    "a [red:blue:4] circle",
    "a [red:blue:0.25] circle",
    "a [red:0.5] circle",
    "a [red::4] circle",
    "a [[red:blue:2]:green:6] circle",
    "a ([red:blue:4]:1.4) circle",
    "a [red|blue] circle",
    "a [red] circle",
    "a [red:blue] circle",
    "a | b [red:blue:4]",
)


def prompt_weights() -> str:
    return table(
        ("prompt", "words and weights"),
        [
            (code(text), ", ".join(filter(None, map(_segment, segments_from_text(text)))))
            for text in WEIGHTS
        ],
    )


def prompt_edits() -> str:
    return table(
        ("prompt, 10 steps", "what it says"),
        [(code(text), _versions(edited_texts(text, NUM_STEPS))) for text in EDITS],
    )


def _segment(segment: Segment) -> str:
    if segment.is_break:
        return "a new chunk"
    words = code(segment.text.strip())
    return words if segment.weight == 1 or not words else f"{words} × {segment.weight:.3g}"


def _versions(texts: tuple[EditedText, ...]) -> str:
    if len(texts) == 1:
        return f"{code(texts[0].text)} in all steps"
    if len({each.text for each in texts}) < len(texts):  # it alternates
        first, second = texts[:2]
        return f"{code(first.text)} and {code(second.text)} in turn"
    *others, last = texts
    return ", ".join([*(f"{code(each.text)} to {each.until}" for each in others), code(last.text)])


BLOCKS: Mapping[str, Callable[[], str]] = {
    "prompt weights": prompt_weights,
    "prompt edits": prompt_edits,
}
