"""A1111's weights: brackets that make words count more or less.

Its `parse_prompt_attention` defines what each bracket means; docs/prompts.md is the grammar.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from sdrt.errors import RequestError, quoted

ROUND, SQUARE = 1.1, 1 / 1.1  # the factors of (…) and […]
MAX_WEIGHT = 1000.0  # further ones leave nothing of the other words
BREAK = "BREAK"

_PIECE = re.compile(
    r"""\\[()\[\]\\]?          # an escape; a lone backslash disappears
      | [(\[]
      | :\s*([+-]?[.\d]+)\s*\) # the end of (words:1.4)
      | [)\]]
      | [^\\()\[\]:]+
      | :""",
    re.VERBOSE,
)
_BREAK = re.compile(rf"\b{BREAK}\b")


@dataclass(frozen=True)
class Segment:
    """Words with one weight, or a break."""

    text: str
    weight: float = 1.0

    @property
    def is_break(self) -> bool:
        """True for the end of a chunk. In weighted brackets BREAK is a word, as in A1111."""
        return (self.text, self.weight) == (BREAK, -1.0)


def segments_from_text(text: str, field: str = "prompt") -> tuple[Segment, ...]:
    """The words of a prompt with their weights; neighbours of equal weight are one segment.

    Raises `RequestError`, which begins with `field`, for a weight that is not a number or that is
    too large.
    """
    parts = _Parts.of(text, field)
    weights = parts.final_weights()
    if len(weights) and not np.abs(weights).max() <= MAX_WEIGHT:
        raise RequestError(
            f"{field}: the brackets give a weight of {np.abs(weights).max():g}, expected "
            f"{MAX_WEIGHT:g} at most: use fewer brackets or smaller weights"
        )
    weighted = zip(weights.tolist(), parts.texts, strict=True)
    return tuple(
        Segment("".join(words for _, words in group), weight)
        for weight, group in groupby(weighted, key=lambda each: each[0])
    ) or (Segment(""),)


def unclosed_bracket(text: str, field: str = "prompt") -> str | None:
    """An opening bracket without its partner: it weighs all that follows."""
    parts = _Parts.of(text, field)
    return next((bracket for bracket, starts in parts.open.items() if starts), None)


def has_weighted_break(text: str, field: str = "prompt") -> bool:
    """True if a BREAK stands in brackets, where it is a word."""
    parts = _Parts.of(text, field)
    weights = parts.final_weights()
    return any(
        words == BREAK and weight != -1
        for words, weight in zip(parts.texts, weights.tolist(), strict=True)
    )


@dataclass
class _Parts:
    """The texts between brackets; closing a bracket weighs those since it was opened.

    The inner weights come first, so that products have A1111's roundings.
    """

    texts: list[str] = field(default_factory=list)
    weights: NDArray[np.float64] = field(default_factory=lambda: np.ones(0))
    open: dict[str, list[int]] = field(default_factory=lambda: {"(": [], "[": []})

    @classmethod
    def of(cls, text: str, field: str) -> _Parts:
        parts = cls(weights=np.ones(2 * len(text) + 1))  # a BREAK makes two parts of one
        for match in _PIECE.finditer(text):
            parts.add(match[0], match[1], field)
        return parts

    def add(self, piece: str, weight: str | None, field: str) -> None:
        if piece.startswith("\\"):
            self.texts.append(piece[1:])
        elif piece in self.open:
            self.open[piece].append(len(self.texts))
        elif weight is not None and self.open["("]:
            self._weigh(self.open["("].pop(), _number(weight, field))
        elif piece == ")" and self.open["("]:
            self._weigh(self.open["("].pop(), ROUND)
        elif piece == "]" and self.open["["]:
            self._weigh(self.open["["].pop(), SQUARE)
        else:
            self._add_words(piece)

    def final_weights(self) -> NDArray[np.float64]:
        """The weight of each text, brackets that were not closed included."""
        weights = self.weights[: len(self.texts)].copy()
        for factor, starts in zip((ROUND, SQUARE), self.open.values(), strict=True):
            for start in starts:
                _scale(weights[start:], factor)
        return weights

    def _add_words(self, piece: str) -> None:
        for number, words in enumerate(_around_breaks(piece)):
            if number:
                self.weights[len(self.texts)] = -1
                self.texts.append(BREAK)
            self.texts.append(words)

    def _weigh(self, start: int, factor: float) -> None:
        _scale(self.weights[start : len(self.texts)], factor)


def _scale(weights: NDArray[np.float64], factor: float) -> None:
    with np.errstate(over="ignore", invalid="ignore"):  # which are refused at the end
        weights *= factor


def _around_breaks(piece: str) -> Iterator[str]:
    """The words before, between and after each BREAK, without the blanks around it."""
    words = _BREAK.split(piece)
    for number, each in enumerate(words):
        after = each.lstrip() if number else each
        yield after.rstrip() if number < len(words) - 1 else after


def _number(text: str, field: str) -> float:
    try:
        return float(text)
    except ValueError as error:
        raise RequestError(
            f"{field}: got the weight {quoted(text)}, expected a number, such as (word:1.3)"
        ) from error
