"""Reads protobuf messages without a library: https://protobuf.dev/programming-guides/encoding"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeAlias

from sdrt_engines.errors import EngineError

Value: TypeAlias = int | memoryview

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_MAX_SHIFT = 63  # an integer has ten bytes at most


def text_of(message: memoryview, number: int) -> str:
    return str(message_of(message, number), "utf-8")


def message_of(message: memoryview, number: int) -> memoryview:
    """The first bytes of field `number`."""
    for value in messages_of(fields_of(message), number):
        return value
    raise EngineError(f"field {number} is missing")


def messages_of(fields: Iterable[tuple[int, Value]], number: int) -> Iterator[memoryview]:
    """The bytes of each field `number`."""
    return (value for found, value in fields if found == number and isinstance(value, memoryview))


def fields_of(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field. EngineError if it is truncated or not protobuf."""
    position = 0
    while position < len(message):
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            varint, position = _varint(message, position)
            yield number, varint
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise EngineError("it is not a protobuf message")
        if position + size > len(message):
            raise EngineError("it is truncated")
        yield number, message[position : position + size]
        position += size


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    """The integer at `position` (seven bits per byte, lowest first) and the position of its end."""
    value = shift = 0
    while True:
        if position >= len(message):
            raise EngineError("it is truncated")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
        shift += 7
        if shift > _MAX_SHIFT:
            raise EngineError("it is not a protobuf message")
