"""Writes nodes and small weights of an ONNX graph without a library; `onnx_graph` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeAlias

import numpy as np

from sdrt_engines.onnx_graph import (
    ATTRIBUTE,
    INPUT,
    INT,
    INTS,
    NAME,
    NODE,
    OPERATOR,
    OUTPUT,
    TEXT,
    TYPE,
)
from sdrt_engines.protobuf import bytes_field, int_field
from sdrt_engines.tensor import Array

_OF_INT, _OF_TEXT, _OF_INTS = 2, 3, 7  # types of attributes
_WEIGHT = 5  # of a graph
_DIM, _ELEMENT, _WEIGHT_NAME, _RAW = 1, 2, 8, 9
_ELEMENTS: Final[Mapping[np.dtype[Any], int]] = {np.dtype("<f4"): 1, np.dtype("<i8"): 7}

Attribute: TypeAlias = int | str | Sequence[int]


def node_field(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], **attributes: Attribute
) -> bytes:
    """A node as a field of its graph."""
    parts = [name_field(name) for name in inputs]
    parts += [bytes_field(OUTPUT, name.encode()) for name in outputs]
    parts.append(bytes_field(OPERATOR, operator.encode()))
    return bytes_field(NODE, b"".join([*parts, attribute_fields(attributes)]))


def name_field(tensor: str) -> bytes:
    """The field in which a node names an input, and a graph its inputs and outputs."""
    return bytes_field(INPUT, tensor.encode())


def attribute_fields(attributes: Mapping[str, Attribute]) -> bytes:
    """The attributes as fields of their node."""
    contents = (bytes_field(NAME, name.encode()) + _value(v) for name, v in attributes.items())
    return b"".join(bytes_field(ATTRIBUTE, content) for content in contents)


def _value(value: Attribute) -> bytes:
    if isinstance(value, int):
        return int_field(INT, value) + int_field(TYPE, _OF_INT)
    if isinstance(value, str):
        return bytes_field(TEXT, value.encode()) + int_field(TYPE, _OF_TEXT)
    return b"".join(int_field(INTS, each) for each in value) + int_field(TYPE, _OF_INTS)


def weight_field(name: str, array: Array) -> bytes:
    """A weight that is stored in its graph, as a field of it."""
    parts = [int_field(_DIM, size) for size in array.shape]
    parts += [int_field(_ELEMENT, _ELEMENTS[array.dtype]), bytes_field(_WEIGHT_NAME, name.encode())]
    return bytes_field(_WEIGHT, b"".join([*parts, bytes_field(_RAW, array.tobytes())]))
