"""Writes nodes and small weights of an ONNX graph without a library; `onnx_graph` reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

import numpy as np

from sdrt_engines.onnx_graph import (
    ATTRIBUTE,
    DIM,
    DOMAIN,
    DTYPES,
    FLOAT,
    INPUT,
    INT,
    INTS,
    NAME,
    NODE,
    OPERATOR,
    OUTPUT,
    RAW,
    TENSOR_NAME,
    TENSOR_TYPE,
    TEXT,
    TYPE,
    WEIGHT,
)
from sdrt_engines.protobuf import bytes_field, float_field, int_field
from sdrt_engines.tensor import Array

_OF_FLOAT, _OF_INT, _OF_TEXT, _OF_INTS = 1, 2, 3, 7  # types of attributes
_ELEMENTS: Final = {dtype: number for number, dtype in DTYPES.items()}

Attribute: TypeAlias = float | int | str | Sequence[int]


def node_field(
    operator: str,
    inputs: Sequence[str],
    outputs: Sequence[str],
    *,
    domain: str = "",
    **attributes: Attribute,
) -> bytes:
    """A node as a field of its graph; `domain` is that of an operator which is not ONNX's own."""
    parts = [name_field(name) for name in inputs]
    parts += [bytes_field(OUTPUT, name.encode()) for name in outputs]
    parts += [bytes_field(OPERATOR, operator.encode()), attribute_fields(attributes)]
    if domain:
        parts.append(bytes_field(DOMAIN, domain.encode()))
    return bytes_field(NODE, b"".join(parts))


class Nodes:
    """New nodes and small weights of a graph, as fields of it; their names begin alike."""

    def __init__(self, prefix: str) -> None:
        self.fields: list[bytes] = []
        self._prefix = prefix

    def add(self, operator: str, *inputs: str, output: str = "", **attributes: Attribute) -> str:
        """Adds a node, and returns the name of its result."""
        output = output or self._new_name()
        self.fields.append(node_field(operator, inputs, [output], domain="", **attributes))
        return output

    def weight(self, array: Array) -> str:
        """Adds a weight, and returns its name."""
        name = self._new_name()
        self.fields.append(weight_field(name, array))
        return name

    def integers(self, *values: int) -> str:
        """Adds a weight of int64, (number of values,), and returns its name."""
        return self.weight(np.array(values, np.int64))

    def _new_name(self) -> str:
        return f"{self._prefix}.{len(self.fields)}"


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
    if isinstance(value, float):
        return float_field(FLOAT, value) + int_field(TYPE, _OF_FLOAT)
    if isinstance(value, str):
        return bytes_field(TEXT, value.encode()) + int_field(TYPE, _OF_TEXT)
    return b"".join(int_field(INTS, each) for each in value) + int_field(TYPE, _OF_INTS)


def weight_field(name: str, array: Array) -> bytes:
    """A weight that is stored in its graph, as a field of it."""
    parts = [int_field(DIM, size) for size in array.shape]
    parts += [int_field(TENSOR_TYPE, _ELEMENTS[array.dtype])]
    parts += [bytes_field(TENSOR_NAME, name.encode()), bytes_field(RAW, array.tobytes())]
    return bytes_field(WEIGHT, b"".join(parts))
