"""The parts of A1111's text: prompts and fields. Other programs write it in dialects of their own.

A1111 takes the last line for fields if it has three. Here a line of fields must name known ones,
because prompts hold colons too, and it may be followed by lines that extensions add.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass

NEGATIVE = "Negative prompt:"
# Fields of sdrt's own: A1111 has no such parameters.
OF_SDXL = (
    *("SDXL prompt 2", "SDXL negative prompt 2"),
    *("SDXL original size", "SDXL crop", "SDXL target size"),
    *("SDXL negative original size", "SDXL negative crop", "SDXL negative target size"),
    *("SDXL aesthetic score", "SDXL negative aesthetic score"),
)
SYNTAX = "Prompt syntax"  # of sdrt, too: other programs write A1111's
MERGED_FIELDS = {"Lora hashes": "lora", "TI hashes": "embedding"}  # kinds of `Merged`
OF_SPEED = ("Guidance interval", "Forecast")  # of sdrt, too
KNOWN = (
    *("Steps", "Sampler", "Schedule type", "CFG scale", "Seed", "Size", "Model", "Model hash"),
    *("Denoising strength", "Clip skip", "Refiner", "Refiner switch at", "Version"),
    *OF_SDXL,
    SYNTAX,
    *MERGED_FIELDS,
    *OF_SPEED,
)
_CANONICAL = {name.lower(): name for name in KNOWN} | {
    "guidance scale": "CFG scale",  # Draw Things
    "scheduler": "Schedule type",  # SD.Next, and programs around ComfyUI
}
_MIN_FIELDS = 3  # known ones, a number of steps counts twice
_NAME = re.compile(r"\s*(\w[\w \-/]+):[^\S\n]*")
_END = re.compile(r"\s*(?:,|\n|$)")  # of a field
_QUOTED = re.compile(rf'"(?:\\.|[^\\"])*"(?={_END.pattern})', re.DOTALL)
_PLAIN = re.compile(r"[^,\n]*")
_REST_OF_LINE = re.compile(r"[^\n]*")


@dataclass(frozen=True)
class Infotext:
    """The parts of a text. `fields` are by A1111's names, in their order, unquoted; `rest` is what
    stands among them and is not a field."""

    prompt: str
    negative_prompt: str
    fields: dict[str, str]
    rest: tuple[str, ...]


def infotext_from_text(text: str) -> Infotext:
    """The parts of a text that may be no more than a prompt."""
    lines = text.strip().split("\n")
    numbers = [number for number, line in enumerate(lines) if _is_of_fields(line)]
    start = numbers[-1] if numbers else len(lines)
    prompt, negative = _split_prompts([line.strip() for line in lines[:start]])
    fields: dict[str, str] = {}
    rest = []
    for name, value in _fields("\n".join(lines[start:])):
        if name:
            fields.setdefault(name, value)  # extensions repeat names after A1111's own fields
        elif value:
            rest.append(value)
    return Infotext(prompt, negative, fields, tuple(rest))


def _split_prompts(lines: Sequence[str]) -> tuple[str, str]:
    """Prompt and negative prompt, each of any number of lines."""
    for number, line in enumerate(lines):
        if line.startswith(NEGATIVE):
            negative = [line.removeprefix(NEGATIVE).strip(), *lines[number + 1 :]]
            return "\n".join(lines[:number]), "\n".join(negative)
    return "\n".join(lines), ""


def _is_of_fields(line: str) -> bool:
    first = _NAME.match(line)
    if first is None or _canonical(first[1]) not in KNOWN:
        return False
    fields = dict(_fields(line))
    weight = len(fields.keys() & {*KNOWN}) + fields.get("Steps", "")[:1].isdigit()
    return "Steps" in fields and weight >= _MIN_FIELDS


def _fields(text: str) -> Iterator[tuple[str, str]]:
    """Names and values; a text that is not a field has the name ""."""
    position, may_be_long = 0, True
    while position < len(text):
        found = _NAME.match(text, position)
        if found is None:
            end = _end(_PLAIN, text, position)
            yield "", text[position:end].strip()
        else:
            name, start = _canonical(found[1]), found.end()
            if position and text[position - 1] == "\n" and name not in KNOWN:
                end = _end(_REST_OF_LINE, text, start)  # an extension's line, commas included
            else:
                end = _end_of_value(text, start, may_be_long)
            value = text[start:end].strip()
            may_be_long = may_be_long and not _is_unfinished(value)
            yield name, _unquoted(value)
        position = _end(_PLAIN, text, end) + 1


def _is_unfinished(value: str) -> bool:
    """True for half a quotation. Searching for each one's end would take quadratic time."""
    return value.startswith(('"', "{", "[")) and not value.endswith(('"', "}", "]"))


def _end_of_value(text: str, start: int, may_be_long: bool) -> int:
    """The end of the value that begins at `start`: a text in quotes, JSON, or up to a comma."""
    if may_be_long and (found := _QUOTED.match(text, start)):
        return found.end()
    if may_be_long and text.startswith(("{", "["), start):
        with suppress(ValueError, RecursionError):
            end = json.JSONDecoder().raw_decode(text, start)[1]
            if _END.match(text, end):
                return end
    return _end(_PLAIN, text, start)


def _end(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    assert found is not None, "the pattern matches the empty text, too"
    return found.end()


def _canonical(name: str) -> str:
    name = name.strip()
    return _CANONICAL.get(name.lower(), name)


def quoted(value: object) -> str:
    """A value in the text's form: a JSON string if it contains commas, colons or line breaks."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n\"]", text) else text


def _unquoted(text: str) -> str:
    """The inverse of `quoted`; text with a stray quote stays as it is."""
    if not (len(text) > 1 and text.startswith('"') and text.endswith('"')):
        return text
    try:
        return str(json.loads(text, strict=False))  # line breaks are not always escaped
    except ValueError:
        return text
