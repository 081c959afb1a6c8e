"""Reads the signature of an ONNX file without a library, without its weights, in milliseconds.

onnxruntime returns a signature only after it has loaded the weights (seconds and gigabytes for a
UNet), and `onnx` is not part of the lean installation. An ONNX file is a protobuf message; the
numbers below are the field numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Iterator
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from sdrt_engines.errors import EngineError, SdrtError
from sdrt_engines.regular_file import open_regular
from sdrt_engines.tensor import DTYPES, Signature, TensorSpec

Value: TypeAlias = int | memoryview

_MODEL_GRAPH = 7
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_INITIALIZER_NAME = 8
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_ELEMENT, _TENSOR_SHAPE = 1, 2
_SHAPE_DIM = 1
_DIM_VALUE, _DIM_PARAM = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_DTYPE_NAMES = {  # TensorProto.DataType; numpy has no bfloat16
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}


def signature_from_onnx(path: str | PathLike[str]) -> Signature:
    """Inputs and outputs of the ONNX file at `path`, in its order, without the initializers.

    A dimension without a name in the file is named after its tensor: `sample.0`.
    EngineError for a file that is missing, not ONNX, truncated, or has inputs that are not tensors.
    """
    path = Path(path)
    try:
        with open_regular(path) as file:
            message = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        return _signature_from_graph(_message(message, _MODEL_GRAPH))
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror}): export it again") from error
    except (SdrtError, ValueError) as error:  # mmap refuses an empty file with a ValueError
        raise EngineError(f"{path}: not an ONNX model: {error}: copy or export it again") from error


def _signature_from_graph(graph: memoryview) -> Signature:
    fields = list(_fields(graph))
    weights = {_text(tensor, _INITIALIZER_NAME) for tensor in _all(fields, _GRAPH_INITIALIZER)}
    inputs = [_spec_from_value(value) for value in _all(fields, _GRAPH_INPUT)]
    outputs = [_spec_from_value(value) for value in _all(fields, _GRAPH_OUTPUT)]
    return Signature(tuple(spec for spec in inputs if spec.name not in weights), tuple(outputs))


def _spec_from_value(value: memoryview) -> TensorSpec:
    name = _text(value, _VALUE_NAME)
    tensor = dict(_fields(_message(_message(value, _VALUE_TYPE), _TYPE_TENSOR)))
    element = tensor.get(_TENSOR_ELEMENT)
    if element not in _DTYPE_NAMES:
        raise EngineError(
            f"tensor '{name}' has element type {element}, which numpy does not support"
        )
    shape = tensor.get(_TENSOR_SHAPE)
    if not isinstance(shape, memoryview):
        raise EngineError(f"tensor '{name}' has no shape")
    dims = [dict(_fields(dim)) for dim in _all(_fields(shape), _SHAPE_DIM)]
    return TensorSpec(
        name,
        DTYPES[_DTYPE_NAMES[element]],
        tuple(_dim_from_fields(dim, f"{name}.{axis}") for axis, dim in enumerate(dims)),
    )


def _dim_from_fields(dim: dict[int, Value], otherwise: str) -> int | str:
    match dim.get(_DIM_VALUE), dim.get(_DIM_PARAM):
        case int(size), _ if 0 < size < 2**63:  # old exporters write -1 for an unknown size
            return size
        case _, memoryview() as param if param:
            return str(param, "utf-8")
    return otherwise


def _text(message: memoryview, number: int) -> str:
    return str(_message(message, number), "utf-8")


def _message(message: memoryview, number: int) -> memoryview:
    """The first bytes of field `number`."""
    for value in _all(_fields(message), number):
        return value
    raise EngineError(f"field {number} is missing")


def _all(fields: Iterable[tuple[int, Value]], number: int) -> Iterator[memoryview]:
    return (value for found, value in fields if found == number and isinstance(value, memoryview))


def _fields(message: memoryview) -> Iterator[tuple[int, Value]]:
    """(number, value) of each field: https://protobuf.dev/programming-guides/encoding"""
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
