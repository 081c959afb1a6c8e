"""Reads and edits protobuf messages without a library:
https://protobuf.dev/programming-guides/encoding
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeAlias

from sdrt_engines.errors import EngineError

Value: TypeAlias = int | memoryview
Edit: TypeAlias = Callable[[Any], bytes]  # takes a field's value, returns the fields in its place

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
    return ((number, value) for number, value, _ in _encoded_fields(message))


def edited(message: memoryview, edits: Mapping[int, Edit]) -> bytes:
    """The message with some fields, by number, replaced by what their edit returns."""
    return b"".join(
        edits[number](value) if number in edits else encoded
        for number, value, encoded in _encoded_fields(message)
    )


def bytes_field(number: int, content: bytes | memoryview) -> bytes:
    return b"".join([_encoded(number << 3 | _BYTES), _encoded(len(content)), content])


def int_field(number: int, value: int) -> bytes:
    return _encoded(number << 3 | _VARINT) + _encoded(value)


def float_field(number: int, value: float) -> bytes:
    return _encoded(number << 3 | _FIXED32) + struct.pack("<f", value)


def _encoded(value: int) -> bytes:
    """Seven bits per byte, lowest first."""
    septets = []
    while value > 0x7F:
        septets.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*septets, value])


def _encoded_fields(message: memoryview) -> Iterator[tuple[int, Value, memoryview]]:
    """(number, value, all bytes) of each field."""
    position = 0
    while position < len(message):
        start = position
        key, position = _varint(message, position)
        number, kind = key >> 3, key & 7
        if kind == _VARINT:
            varint, position = _varint(message, position)
            yield number, varint, message[start:position]
            continue
        if kind == _BYTES:
            size, position = _varint(message, position)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise EngineError("it is not a protobuf message")
        if position + size > len(message):
            raise EngineError("it is truncated")
        yield number, message[position : position + size], message[start : position + size]
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
