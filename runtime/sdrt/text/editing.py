"""A1111's prompt editing: words that change during the steps.

`[from:to:when]`, `[to:when]`, `[from::when]` and `[one|other]`. Its
`get_learned_conditioning_prompt_schedules` defines what each means; docs/prompts.md is the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

_PIECE = re.compile(r"\\.|[\[\]():|]|[^\\\[\]():|]+")
_NUMBER = re.compile(r"\s*([+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)\s*")

Span: TypeAlias = tuple[int, int]  # the first piece, and the one after the last
_NOTHING: Span = (0, 0)


@dataclass(frozen=True)
class EditedText:
    """The text of a prompt up to a step; steps are counted from 1."""

    until: int
    text: str


def edited_texts(text: str, num_steps: int) -> tuple[EditedText, ...]:
    """The texts of a prompt in their order; the last holds until `num_steps`.

    Brackets that are not an edit stay as they are. With a bar outside of `[…|…]`, or a backslash at
    the end, nothing is an edit.
    """
    pieces = _PIECE.findall(text)
    edits = None if sum(map(len, pieces)) < len(text) else _edits_in(pieces, num_steps)
    if not edits:
        return (EditedText(num_steps, text),)
    return tuple(
        EditedText(step, "".join(_pieces_at(step, pieces, edits)))
        for step in _last_steps(edits.values(), num_steps)
    )


@dataclass(frozen=True)
class _Edit:
    """Brackets whose parts take turns. `when` is the last step of the first part; None: each part
    has one step after another."""

    end: int  # of the pieces, with the closing bracket
    parts: tuple[Span, ...]
    when: int | None = None

    def part_at(self, step: int) -> Span:
        if self.when is None:
            return self.parts[(step - 1) % len(self.parts)]
        return self.parts[0 if step <= self.when else 1]


@dataclass
class _Group:
    """An open bracket, and where it is divided."""

    start: int
    bracket: str
    colons: list[int] = field(default_factory=list)
    bars: list[int] = field(default_factory=list)
    is_prompt: bool = True  # False if it contains what only the top level may contain

    def edit(self, end: int, pieces: Sequence[str], num_steps: int) -> _Edit | None:
        """The edit between this bracket and its partner, the piece before `end`."""
        if self.bracket == "(" or not self.is_prompt:
            return None
        if self.bars:
            return None if self.colons else _Edit(end, self._parts(self.bars, end - 1))
        if not 1 <= len(self.colons) <= 2:
            return None
        *words, (start, stop) = self._parts(self.colons, end - 1)
        number = _NUMBER.fullmatch("".join(pieces[start:stop]))
        if number is None:
            return None
        before, after = (_NOTHING, *words)[-2:]
        return _Edit(end, (before, after), _last_step(number[1], num_steps))

    def _parts(self, divisions: Sequence[int], end: int) -> tuple[Span, ...]:
        starts = [index + 1 for index in (self.start, *divisions)]
        return tuple(zip(starts, (*divisions, end), strict=True))

    @property
    def is_plain(self) -> bool:
        """True for brackets that only weigh."""
        return self.is_prompt and len(self.colons) <= (self.bracket == "(") and not self.bars


def _edits_in(pieces: Sequence[str], num_steps: int) -> dict[int, _Edit] | None:
    """The edits by the index of their opening bracket; None if a bar makes the prompt no prompt of
    A1111's grammar.

    A bracket without its partner, or with colons that mean nothing, makes words of all brackets
    around it.
    """
    edits: dict[int, _Edit] = {}
    groups: list[_Group] = []
    for index, piece in enumerate(pieces):
        if piece in ("(", "["):
            groups.append(_Group(index, piece))
        elif piece == ":" and groups:
            groups[-1].colons.append(index)
        elif piece == "|":
            if not groups or groups[-1].bracket == "(":
                return None
            groups[-1].bars.append(index)
        elif piece in (")", "]"):
            if not groups or groups[-1].bracket + piece not in ("()", "[]"):
                if any(group.bars for group in groups):
                    return None
                groups.clear()
                continue
            group = groups.pop()
            if edit := group.edit(index + 1, pieces, num_steps):
                edits[group.start] = edit
            elif group.bars:
                return None
            elif groups and not group.is_plain:
                groups[-1].is_prompt = False
    return None if any(group.bars for group in groups) else edits


def _last_step(number: str, num_steps: int) -> int:
    """The step that a number means: a share of the steps if it has a point."""
    value = float(number) * (num_steps if "." in number else 1)
    return int(max(min(value, num_steps), 0))


def _last_steps(edits: Iterable[_Edit], num_steps: int) -> Sequence[int]:
    """The last step of each text."""
    steps = {num_steps}
    for edit in edits:
        steps.update(range(1, num_steps + 1) if edit.when is None else {edit.when} - {0})
    return sorted(steps)


def _pieces_at(step: int, pieces: Sequence[str], edits: Mapping[int, _Edit]) -> Iterator[str]:
    """The pieces of the text at a step. Edits may be nested thousands deep."""
    index, ends = 0, [(len(pieces), 0)]  # of the parts around `index`, and where to go on
    while ends:
        end, after = ends[-1]
        if index == end:
            index = after
            ends.pop()
        elif edit := edits.get(index):
            start, end = edit.part_at(step)
            ends.append((end, edit.end))
            index = start
        else:
            yield pieces[index]
            index += 1
