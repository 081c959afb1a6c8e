"""Frozen dataclasses to JSON and back; errors name the missing, malformed or unknown field.

A field that equals its default is left out, and may be absent. JSON has no infinity: a field of the
type `MaybeInfinite` is null instead.
"""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from functools import cache
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    TypeAlias,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import numpy as np

from sdrt.errors import SdrtError, did_you_mean
from sdrt.files.json_fields import FieldError, is_finite_number, wrong_value
from sdrt_engines import DTYPES

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")

MaybeInfinite: TypeAlias = Annotated[float, "null is infinite"]

_SCALARS = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}


def json_from_record(record: Any) -> dict[str, Any]:
    """The JSON object for a dataclass."""
    return {
        field.name: _encoded(getattr(record, field.name))
        for field in fields(record)
        if not _is_default(field, getattr(record, field.name))
    }


def record_from_json(kind: type[T], value: object, where: str = "") -> T:
    """The dataclass `kind` that a JSON value describes; `where` is its path in the document.

    BundleError names the first field that is missing, malformed or unknown: `files[0].size: …`.
    """
    if not isinstance(value, dict):
        raise wrong_value(where, value, "an object")
    hints = _hints_of(kind)
    for name in value:
        if name not in hints:
            raise FieldError(f"{_joined(where, name)}: unknown field, {did_you_mean(name, hints)}")
    arguments = {
        field.name: _field_value(field, hints[field.name], value, where)
        for field in fields(kind)
        if field.name in value or not _has_default(field)
    }
    try:
        return kind(**arguments)
    except FieldError:
        raise
    except SdrtError as error:
        raise FieldError(f"{where}: {error}" if where else str(error)) from None


def _field_value(field: Field[Any], hint: Any, record: Mapping[str, Any], where: str) -> Any:
    path = _joined(where, field.name)
    if field.name not in record:
        raise FieldError(f"{path}: missing")
    return _decoded(hint, record[field.name], path)


def _decoded(hint: Any, value: Any, where: str) -> Any:
    """`value` as the type `hint`."""
    origin, arguments = get_origin(hint) or hint, get_args(hint)
    if origin in _SCALARS:
        return _scalar(origin, value, where)
    if isinstance(hint, type) and is_dataclass(hint):
        return record_from_json(hint, value, where)
    if origin is Annotated:
        return math.inf if value is None else _decoded(arguments[0], value, where)
    if origin is Literal:
        return _choice(arguments, value, where)
    if origin in (Union, types.UnionType):
        return _one_of(arguments, value, where)
    if origin in (tuple, frozenset):
        return origin(_items(arguments[0], value, where))
    if origin is np.dtype:
        return DTYPES[_choice(tuple(DTYPES), value, where)]
    if origin is Any:
        return value
    return _mapping(arguments[1], value, where)


def _scalar(kind: type, value: Any, where: str) -> Any:
    if kind is float:
        if is_finite_number(value):
            return float(value)
    elif type(value) is kind and value != "":
        return value
    raise wrong_value(where, value, _SCALARS[kind])


def _choice(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if not isinstance(value, str):
        raise wrong_value(where, value, "a string")
    if value not in choices:
        raise FieldError(f"{where}: got '{value}', {did_you_mean(value, choices)}")
    return value


def _one_of(arguments: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and types.NoneType in arguments:
        return None
    kinds = [kind for kind in arguments if kind is not types.NoneType]
    fitting = [kind for kind in kinds if type(value) is kind]
    return _decoded((fitting or kinds)[0], value, where)


def _items(hint: Any, value: Any, where: str) -> list[Any]:
    if not isinstance(value, list):
        raise wrong_value(where, value, "an array")
    return [_decoded(hint, item, f"{where}[{index}]") for index, item in enumerate(value)]


def _mapping(hint: Any, value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise wrong_value(where, value, "an object")
    return {name: _decoded(hint, item, _joined(where, name)) for name, item in value.items()}


def _encoded(value: Any) -> Any:
    if is_dataclass(value):
        return json_from_record(value)
    if isinstance(value, np.dtype):
        return value.name
    if isinstance(value, float) and math.isinf(value):
        return None
    if isinstance(value, frozenset):
        return sorted(value)
    if isinstance(value, tuple | list):
        return [_encoded(item) for item in value]
    if isinstance(value, Mapping):
        return {name: _encoded(item) for name, item in value.items()}
    return value


@cache
def _hints_of(kind: type) -> Mapping[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _has_default(field: Field[Any]) -> bool:
    return field.default is not MISSING or field.default_factory is not MISSING


def _is_default(field: Field[Any], value: object) -> bool:
    default = field.default if field.default_factory is MISSING else field.default_factory()
    return bool(value == default)


def _joined(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
