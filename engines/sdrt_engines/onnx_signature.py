"""Reads the signature of an ONNX file without a library, without its weights, in milliseconds.

onnxruntime returns a signature only after it has loaded the weights (seconds and gigabytes for a
UNet), and `onnx` is not part of the lean installation. An ONNX file is a protobuf message; the
numbers below are the field numbers of https://github.com/onnx/onnx/blob/main/onnx/onnx.proto.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path

from sdrt_engines.errors import EngineError, SdrtError
from sdrt_engines.protobuf import Value, fields_of, message_of, messages_of, text_of
from sdrt_engines.regular_file import open_regular
from sdrt_engines.tensor import DTYPES, Signature, TensorSpec

_MODEL_GRAPH = 7
_GRAPH_INITIALIZER, _GRAPH_INPUT, _GRAPH_OUTPUT = 5, 11, 12
_INITIALIZER_NAME = 8
_VALUE_NAME, _VALUE_TYPE = 1, 2
_TYPE_TENSOR = 1
_TENSOR_ELEMENT, _TENSOR_SHAPE = 1, 2
_SHAPE_DIM = 1
_DIM_VALUE, _DIM_PARAM = 1, 2

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
    with onnx_message(Path(path)) as model:
        return _signature_from_graph(message_of(model, _MODEL_GRAPH))


@contextmanager
def onnx_message(path: Path) -> Iterator[memoryview]:
    """The bytes of the ONNX file at `path`; translates errors of reading it in the block."""
    try:
        with open_regular(path) as file:
            yield memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise EngineError(f"{path}: cannot be read ({error.strerror}): export it again") from error
    except RecursionError as error:
        raise EngineError(f"{path}: not an ONNX model: it is nested too deeply") from error
    except (SdrtError, ValueError) as error:  # mmap refuses an empty file with a ValueError
        raise EngineError(f"{path}: not an ONNX model: {error}: copy or export it again") from error


def _signature_from_graph(graph: memoryview) -> Signature:
    fields = list(fields_of(graph))
    weights = {
        text_of(tensor, _INITIALIZER_NAME) for tensor in messages_of(fields, _GRAPH_INITIALIZER)
    }
    inputs = [_spec_from_value(value) for value in messages_of(fields, _GRAPH_INPUT)]
    outputs = [_spec_from_value(value) for value in messages_of(fields, _GRAPH_OUTPUT)]
    return Signature(tuple(spec for spec in inputs if spec.name not in weights), tuple(outputs))


def _spec_from_value(value: memoryview) -> TensorSpec:
    name = text_of(value, _VALUE_NAME)
    tensor = dict(fields_of(message_of(message_of(value, _VALUE_TYPE), _TYPE_TENSOR)))
    element = tensor.get(_TENSOR_ELEMENT)
    if element not in _DTYPE_NAMES:
        raise EngineError(
            f"tensor '{name}' has element type {element}, which numpy does not support"
        )
    shape = tensor.get(_TENSOR_SHAPE)
    if not isinstance(shape, memoryview):
        raise EngineError(f"tensor '{name}' has no shape")
    dims = [dict(fields_of(dim)) for dim in messages_of(fields_of(shape), _SHAPE_DIM)]
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
