"""Reads the fields of JSON objects; errors name the missing or malformed field."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from sdrt.errors import BundleError, SdrtError

T = TypeVar("T")

_MAX_SHOWN = 40  # characters of a value in a message


class FieldError(BundleError):
    """A field is missing or malformed; the message begins with its name."""


@contextmanager
def within(where: str) -> Iterator[None]:
    """Turns errors inside into a BundleError that begins with `where`: `sdrt.json: ...`."""
    try:
        yield
    except SdrtError as error:
        raise BundleError(f"{where}: {error}").with_traceback(error.__traceback__) from None


@contextmanager
def _within_field(name: str) -> Iterator[None]:
    """The same one level deeper: `components[1].files[0].size: ...`."""
    try:
        yield
    except SdrtError as error:
        joint = "." if isinstance(error, FieldError) else ": "
        message = f"{name}{joint}{error}"
        raise FieldError(message).with_traceback(error.__traceback__) from None


class JsonFields:
    """A JSON object. Each method returns one field, or raises BundleError with its name.

    Fields with a `default` may be absent or null.
    """

    def __init__(self, value: object) -> None:
        if not isinstance(value, dict):
            raise BundleError(f"got {_kind(value)}, expected an object")
        self.values: dict[str, Any] = value

    @classmethod
    def parse(cls, text: str | bytes, *, infinities: bool = False) -> JsonFields:
        """The object in `text`; `infinities` allows Infinity as a number."""
        constant = _infinity if infinities else _refuse_constant
        try:
            return cls(json.loads(text, parse_constant=constant, object_pairs_hook=_each_key_once))
        except (ValueError, RecursionError) as error:  # JSONDecodeError and UnicodeDecodeError too
            raise BundleError(f"not valid JSON ({error})") from error

    def text(self, name: str, default: str | None = None) -> str:
        """A non-empty string."""
        if default is not None and self.values.get(name) is None:
            return default
        value = self._value(name)
        if not isinstance(value, str) or not value:
            raise wrong_value(name, value, "a string")
        return value

    def integer(self, name: str, default: int | None = None) -> int:
        if default is not None and self.values.get(name) is None:
            return default
        value = self._value(name)
        if type(value) is not int:  # True is an int to isinstance
            raise wrong_value(name, value, "an integer")
        return value

    def number(self, name: str, default: float | None = None) -> float:
        """An int or a float, finite."""
        if default is not None and self.values.get(name) is None:
            return default
        value = self._value(name)
        if not is_finite_number(value):
            raise wrong_value(name, value, "a number")
        return float(value)

    def flag(self, name: str, default: bool | None = None) -> bool:
        if default is not None and self.values.get(name) is None:
            return default
        value = self._value(name)
        if not isinstance(value, bool):
            raise wrong_value(name, value, "true or false")
        return value

    def array(self, name: str) -> list[Any]:
        value = self._value(name)
        if not isinstance(value, list):
            raise wrong_value(name, value, "an array")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        """The strings in the array called `name`."""
        values = self.array(name)
        for index, value in enumerate(values):
            if not isinstance(value, str):
                raise wrong_value(f"{name}[{index}]", value, "a text")
        return tuple(values)

    def child(self, name: str) -> JsonFields:
        value = self._value(name)
        if not isinstance(value, dict):
            raise wrong_value(name, value, "an object")
        return JsonFields(value)

    def convert(self, name: str, convert: Callable[[JsonFields], T]) -> T:
        """`convert` of the object called `name`."""
        child = self.child(name)
        with _within_field(name):
            return convert(child)

    def convert_each(self, name: str, convert: Callable[[JsonFields], T]) -> tuple[T, ...]:
        """`convert` of each object in the array called `name`."""
        converted = []
        for index, value in enumerate(self.array(name)):
            with _within_field(f"{name}[{index}]"):
                converted.append(convert(JsonFields(value)))
        return tuple(converted)

    def _value(self, name: str) -> Any:
        if name not in self.values:
            raise FieldError(f"{name}: missing")
        return self.values[name]


def is_finite_number(value: object) -> bool:
    """True for an int or a float that fits a float: not a boolean, no overflow."""
    if not isinstance(value, int | float) or isinstance(value, bool):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def wrong_value(where: str, value: object, expected: str) -> FieldError:
    """The error for a value of the wrong kind at the path `where`, "" for the document itself."""
    return FieldError(f"{where and f'{where}: '}got {_kind(value)}, expected {expected}")


def _kind(value: object) -> str:
    """The value as JSON; of long ones only the beginning, which is all that is encoded."""
    text = ""
    for part in json.JSONEncoder().iterencode(value):
        text += part
        if len(text) > _MAX_SHOWN:
            return f"{text[: _MAX_SHOWN - 3]}..."
    return text


def _each_key_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object; of two values of one key, parsers take either."""
    values = dict(pairs)
    if len(values) < len(pairs):
        ((twice, _),) = Counter(key for key, _ in pairs).most_common(1)
        raise ValueError(f"the key '{twice[:_MAX_SHOWN]}' is there twice")
    return values


def _infinity(name: str) -> float:
    return _refuse_constant(name) if name == "NaN" else float(name)


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is not JSON")
