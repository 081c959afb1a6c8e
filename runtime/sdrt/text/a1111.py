"""A1111's prompt language as a whole: what it removes, and what sdrt does not do of it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from sdrt.notes import Note
from sdrt.text.emphasis import has_weighted_break, unclosed_bracket

_TAG = re.compile(r"<\w+:[^<>]+>")  # <lora:name:0.8>, <hypernet:name:1>
_LORA = re.compile(r"<lora:([^:<>]+)(?::([^:<>]+))?>")
_COMPOSED = re.compile(r"\bAND\b|:\s*[+-]?(?:\d+\.?\d*|\.\d+)\s*$")
_MAX_TAGS, _MAX_LETTERS = 5, 60  # in a message


def without_tags(text: str) -> str:
    """The prompt without `<lora:name:1>`, which no text encoder reads."""
    return _TAG.sub("", text)


def notes_on_prompt(
    field: str, text: str, loras: Collection[tuple[str, float]] = ()
) -> Iterator[Note]:
    """Notes on parts of a prompt in A1111's language that do less than they seem to.

    `loras` are the names and scales of those that the bundle was exported with.
    """
    words = without_tags(text)
    if tags := dict.fromkeys(tag for tag in _TAG.findall(text) if _lora_in(tag) not in loras):
        yield Note(
            "prompt_tags",
            field,
            f"{field}: {_listed([*tags])} is left out: add a LoRA to the bundle at export, with "
            "`sdrt export --lora FILE:SCALE`",
        )
    if not field.startswith("negative") and (composed := _COMPOSED.search(words)):
        yield Note(
            "prompt_composed",
            field,
            f"{field}: {composed[0].strip()!r} is read as words: A1111 would compose several "
            "prompts, or weigh this one, which sdrt does not do",
        )
    if bracket := unclosed_bracket(words, field):
        yield Note(
            "prompt_bracket",
            field,
            f"{field}: a '{bracket}' is not closed, and so weighs all that follows: write "
            f"'\\{bracket}' for the bracket itself",
        )
    if has_weighted_break(words, field):
        yield Note(
            "prompt_break",
            field,
            f"{field}: a BREAK in brackets is a word, as in A1111: write it outside of them",
        )


def _lora_in(tag: str) -> tuple[str, float] | None:
    """The name and the scale in the tag of a LoRA; None for any other tag."""
    match = _LORA.fullmatch(tag)
    try:
        return None if match is None else (match[1].strip(), float(match[2] or 1))
    except ValueError:
        return None


def _listed(tags: list[str]) -> str:
    shown = [_printable(tag) for tag in tags[:_MAX_TAGS]]
    return ", ".join(shown) + (f" and {len(tags) - _MAX_TAGS} more" if tags[_MAX_TAGS:] else "")


def _printable(tag: str) -> str:
    """A tag in a message: short, and without control characters."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in tag)
    return printable if len(printable) <= _MAX_LETTERS else f"{printable[: _MAX_LETTERS - 3]}..."
