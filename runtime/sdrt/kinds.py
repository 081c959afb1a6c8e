"""Kinds of values that a parameter may have, in words and as a check."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

import numpy as np

from sdrt.errors import RequestError, did_you_mean, quoted
from sdrt.scheduler_names import canonical_name

MAX_TEXT = 10_000  # characters; a text encoder reads 77 tokens
MAX_ITEMS = 1000  # as many as the timesteps of training


class Kind(Protocol):
    """A set of values; `str()` describes it after "expected"."""

    def checked(self, name: str, value: Any) -> Any:
        """The value as it is kept. Raises `RequestError`, which begins with `name`, for others."""
        ...


@dataclass(frozen=True)
class Between:
    """The numbers from `low` to `high`, both included; neither NaN nor a boolean."""

    low: float
    high: float
    whole: bool = False

    def checked(self, name: str, value: Any) -> int | float:
        """The number; numpy's scalars become Python's."""
        number = _python_number(value)
        if number is None or number not in self:
            raise _refusal(name, value, self)
        return number

    def __contains__(self, value: object) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return self.low <= value <= self.high and (isinstance(value, int) or not self.whole)

    def __str__(self) -> str:
        if self.whole:
            return f"a whole number from {self.low} to {self.high}"
        return f"a number from {self.low:g} to {self.high:g}"


@dataclass(frozen=True)
class Numbers:
    """A list of numbers, at least one; tuples and one-dimensional arrays count as lists."""

    each: Between

    def checked(self, name: str, value: Any) -> tuple[int | float, ...]:
        if isinstance(value, np.ndarray) and value.ndim == 1:
            value = value.tolist()
        if not _is_list(value):
            raise _refusal(name, value, self)
        items = list(islice(value, MAX_ITEMS + 1))
        if not 1 <= len(items) <= MAX_ITEMS:
            count = "more" if items else "an empty list"
            raise RequestError(f"{name}: got {count}, expected {self}")
        return tuple(self.each.checked(f"{name}[{i}]", item) for i, item in enumerate(items))

    def __str__(self) -> str:
        return f"a list of {MAX_ITEMS} items at most, each {self.each}"


@dataclass(frozen=True)
class Pair:
    """Two numbers in diffusers' order, such as (height, width); two-element lists count too."""

    names: tuple[str, str]
    each: Between

    def checked(self, name: str, value: Any) -> tuple[int | float, int | float]:
        if isinstance(value, np.ndarray):
            value = value.tolist()
        if not _is_list(value) or len(value) != len(self.names):
            raise _refusal(name, value, self)
        first, second = (
            self.each.checked(f"{name}[{i}] ({part})", value[i])
            for i, part in enumerate(self.names)
        )
        return first, second

    def __str__(self) -> str:
        return f"a pair ({', '.join(self.names)}), each {self.each}"


class Window:
    """A part of the steps, as the shares of them at which it starts and ends."""

    _pair = Pair(("start", "end"), Between(0, 1))

    def checked(self, name: str, value: Any) -> tuple[int | float, int | float]:
        start, end = self._pair.checked(name, value)
        if start >= end:
            raise RequestError(
                f"{name}: got start {start:g} and end {end:g}, expected a start before the end"
            )
        return start, end

    def __str__(self) -> str:
        return str(self._pair)


class Texts:
    """One text, or a list of texts; none longer than `MAX_TEXT`."""

    def checked(self, name: str, value: Any) -> str | tuple[str, ...]:
        if isinstance(value, str):
            return self._one(name, value)
        if not _is_list(value):
            raise _refusal(name, value, self)
        if not value:
            raise RequestError(f"{name}: got an empty list, expected at least one string")
        return tuple(self._one(name, text) for text in value)

    def _one(self, name: str, text: object) -> str:
        if not isinstance(text, str):
            raise _refusal(name, text, self)
        if len(text) > MAX_TEXT:
            raise RequestError(
                f"{name}: got a string of {len(text)} characters, expected {MAX_TEXT} at most: "
                "shorten it"
            )
        return text

    def __str__(self) -> str:
        return "a string or a list of strings"


class Scheduler:
    """The name of a scheduler, in any spelling."""

    def checked(self, name: str, value: Any) -> str:
        """The canonical name. Raises `SamplerError` for a name that sdrt does not know."""
        return canonical_name(value)

    def __str__(self) -> str:
        return "a scheduler's name, such as 'euler_a' or 'EulerAncestralDiscreteScheduler'"


class Flag:
    """True or False."""

    def checked(self, name: str, value: Any) -> bool:
        if not isinstance(value, bool | np.bool_):
            raise _refusal(name, value, self)
        return bool(value)

    def __str__(self) -> str:
        return "True or False"


@dataclass(frozen=True)
class OneOf:
    """One of a few words."""

    words: tuple[str, ...]

    def checked(self, name: str, value: Any) -> str:
        if not isinstance(value, str) or value not in self.words:
            word = value if isinstance(value, str) else ""
            raise RequestError(f"{name}: got {quoted(value)}, {did_you_mean(word, self.words)}")
        return value

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Anything:
    """Values that are checked where they are read."""

    description: str

    def checked(self, name: str, value: Any) -> Any:
        return value

    def __str__(self) -> str:
        return self.description


def _python_number(value: object) -> int | float | None:
    """The number, as Python's if it is numpy's; None for other objects."""
    if isinstance(value, np.generic):
        value = value.item()
    return value if isinstance(value, int | float) else None


def _is_list(value: object) -> bool:
    raw = str | bytes | bytearray | memoryview
    return isinstance(value, Sequence) and not isinstance(value, raw)


def _refusal(name: str, value: object, kind: Kind) -> RequestError:
    return RequestError(f"{name}: got {quoted(value)}, expected {kind}")
