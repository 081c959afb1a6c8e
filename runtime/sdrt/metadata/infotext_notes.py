"""Notes on what sdrt does not honour of A1111's text: its image will differ."""

from __future__ import annotations

import re
from collections.abc import Iterator

from sdrt.metadata.infotext import KNOWN, Infotext
from sdrt.notes import Note

_SECOND_PASS = "Hires "
_GROUPS = ("ADetailer", "ControlNet", "Hires", "Refiner", "Tiled")  # extensions with many fields
_MAX_NAMES = 10
_SAME_IMAGE = {  # fields that change nothing, or nothing that a bundle decides
    *("vae", "vae hash", "hashes", "batch size", "batch pos", "created date", "user", "app"),
    *("template", "negative template", "wildcard prompt", "wildcard negative prompt", "width"),
    *("height", "process", "parser", "backend", "pipeline", "operations", "civitai metadata"),
}
_OFF = {"", "0", "0.0", "false", "none", "{}", "[]"}


def has_second_pass(read: Infotext) -> bool:
    """True if the image was enlarged and denoised again: then the strength belongs to that."""
    return any(name.startswith(_SECOND_PASS) for name in read.fields)


def notes_on_second_pass(read: Infotext) -> Iterator[Note]:
    if has_second_pass(read):
        yield Note(
            "second_pass",
            "strength",
            f"the original had a second pass{_larger_size(read)}, which sdrt does not do: "
            "the image will be that of the first pass",
        )


def notes_on_rest(read: Infotext) -> Iterator[Note]:
    """One note that names all fields."""
    names = [
        *_grouped(_unknown(read)),
        *(f"'{_short(text)}'" for text in read.rest),
    ]
    if len(names) > _MAX_NAMES:
        names[_MAX_NAMES:] = [f"{len(names) - _MAX_NAMES} more"]
    if names:
        *others, last = names
        listed = f"{', '.join(others)} and {last}" if others else last
        yield Note(
            "not_honoured",
            None,
            f"the original was made with {listed}, which sdrt does not honour: the image will "
            "differ",
        )


def _larger_size(read: Infotext) -> str:
    upscale = read.fields.get("Hires upscale", "")
    size = re.fullmatch(r"(\d{1,5})x(\d{1,5})", read.fields.get("Size", ""))
    if size is None or not re.fullmatch(r"\d{1,2}(\.\d{1,4})?", upscale):
        return ""
    return " at {}×{}".format(*(int(int(side) * float(upscale)) for side in size.groups()))


def _unknown(read: Infotext) -> Iterator[str]:
    for name, value in read.fields.items():
        is_second_pass = name.startswith(_SECOND_PASS)  # which has a note of its own
        is_off = value.strip().lower() in _OFF or (name, value) == ("RNG", "CPU")  # as here
        known = name in KNOWN or name.lower() in _SAME_IMAGE
        if not (known or is_off or is_second_pass):
            yield name


def _grouped(names: Iterator[str]) -> list[str]:
    """The names, those of an extension as one."""
    groups: dict[str, list[str]] = {}
    for name in names:
        prefix = next((group for group in _GROUPS if name.startswith(group)), name)
        groups.setdefault(prefix, []).append(name)
    return [
        prefix if len(members) > 1 else _short(members[0]) for prefix, members in groups.items()
    ]


def _short(text: str) -> str:
    """Text of a stranger in a message: short, and without control characters."""
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return printable if len(printable) <= 60 else f"{printable[:57]}..."
