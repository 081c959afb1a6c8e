"""Nodes and small weights of an ONNX graph, read and written without a library.

The numbers of the fields are those of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias, TypeGuard

import numpy as np

from sdrt_engines.protobuf import Value, bytes_field, fields_of, int_field, messages_of, text_of
from sdrt_engines.tensor import Array

GRAPH, NODE, WEIGHT = 7, 1, 5  # the model's graph, and the graph's lists

_NODE_INPUT, _NODE_OUTPUT, _NODE_OPERATOR, _NODE_ATTRIBUTE = 1, 2, 4, 5
_NAME, _INT, _TEXT, _INTS, _KIND = 1, 3, 4, 8, 20  # of an attribute
_OF_INT, _OF_TEXT, _OF_INTS = 2, 3, 7  # kinds of attributes
_DIM, _TYPE, _WEIGHT_NAME, _RAW = 1, 2, 8, 9
_TYPES: Final[Mapping[Any, np.dtype[Any]]] = {1: np.dtype(np.float32), 7: np.dtype(np.int64)}

Attribute: TypeAlias = int | str | tuple[int, ...]
Fields: TypeAlias = Sequence[tuple[int, Value]]


@dataclass(frozen=True)
class Node:
    """A node. Its attributes are integers, lists of them and texts; others are left out."""

    operator: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)


def node_of(message: memoryview) -> Node:
    fields = list(fields_of(message))
    attributes = (list(fields_of(each)) for each in messages_of(fields, _NODE_ATTRIBUTE))
    return Node(
        next(_texts(fields, _NODE_OPERATOR), ""),
        tuple(_texts(fields, _NODE_INPUT)),
        tuple(_texts(fields, _NODE_OUTPUT)),
        {next(_texts(each, _NAME), ""): value for each in attributes for value in _values_of(each)},
    )


def _values_of(attribute: Fields) -> Iterator[Attribute]:
    """The attribute's value, if it is of a known kind."""
    kind = dict(attribute).get(_KIND)
    if kind == _OF_INT:
        yield from (value for number, value in attribute if number == _INT and _is_int(value))
    elif kind == _OF_TEXT:
        yield from _texts(attribute, _TEXT)
    elif kind == _OF_INTS:
        yield tuple(value for number, value in attribute if number == _INTS and _is_int(value))


def _is_int(value: Value) -> TypeGuard[int]:
    return isinstance(value, int)


def name_field(tensor: str) -> bytes:
    """The field in which a node names an input, and a graph one of its inputs and outputs."""
    return bytes_field(_NODE_INPUT, tensor.encode())


def node_field(node: Node) -> bytes:
    """The node as a field of its graph."""
    parts = [name_field(name) for name in node.inputs]
    parts += [bytes_field(_NODE_OUTPUT, name.encode()) for name in node.outputs]
    parts.append(bytes_field(_NODE_OPERATOR, node.operator.encode()))
    return bytes_field(NODE, b"".join([*parts, attribute_fields(node.attributes)]))


def attribute_fields(attributes: Mapping[str, Attribute]) -> bytes:
    """The attributes as fields of their node."""
    contents = (bytes_field(_NAME, name.encode()) + _value(v) for name, v in attributes.items())
    return b"".join(bytes_field(_NODE_ATTRIBUTE, content) for content in contents)


def _value(value: Attribute) -> bytes:
    if isinstance(value, int):
        return int_field(_INT, value) + int_field(_KIND, _OF_INT)
    if isinstance(value, str):
        return bytes_field(_TEXT, value.encode()) + int_field(_KIND, _OF_TEXT)
    return b"".join(int_field(_INTS, each) for each in value) + int_field(_KIND, _OF_INTS)


def small_weights(graph: Fields) -> dict[str, Array]:
    """The weights of a graph, by name, that are float32 or int64 and stored in it."""
    return {
        text_of(tensor, _WEIGHT_NAME): array
        for tensor in messages_of(graph, WEIGHT)
        for array in _array_of(list(fields_of(tensor)))
    }


def _array_of(tensor: Fields) -> Iterator[Array]:
    dtype = _TYPES.get(dict(tensor).get(_TYPE))
    shape = [size for number, size in tensor if number == _DIM and _is_int(size)]
    if dtype is not None:
        for raw in messages_of(tensor, _RAW):
            yield np.frombuffer(raw, dtype).reshape(shape)


def weight_field(name: str, array: Array) -> bytes:
    """A weight that is stored in its graph, as a field of it."""
    element = next(number for number, dtype in _TYPES.items() if dtype == array.dtype)
    parts = [int_field(_DIM, size) for size in array.shape]
    parts += [int_field(_TYPE, element), bytes_field(_WEIGHT_NAME, name.encode())]
    return bytes_field(WEIGHT, b"".join([*parts, bytes_field(_RAW, array.tobytes())]))


def _texts(fields: Iterable[tuple[int, Value]], number: int) -> Iterator[str]:
    return (str(value, "utf-8") for value in messages_of(fields, number))
