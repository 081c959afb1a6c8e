"""Writes small ONNX files without the `onnx` package, for tests that need a real one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from sdrt_engines import Array, Signature, TensorSpec

ELEMENT_TYPES = {  # onnx.TensorProto.DataType
    "float32": 1,
    "uint8": 2,
    "int8": 3,
    "uint16": 4,
    "int16": 5,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "float64": 11,
    "uint32": 12,
    "uint64": 13,
}
# operator, inputs, outputs, and optionally attributes
Node = tuple[str, Sequence[str], Sequence[str]] | tuple[str, Sequence[str], Sequence[str], bytes]


def spec(name: str, dtype: str, *shape: int | str) -> TensorSpec:
    return TensorSpec(name, np.dtype(dtype), shape)


def onnx_model(
    signature: Signature,
    nodes: Sequence[Node],
    weights: Mapping[str, Array] | None = None,
    weights_file: str | None = None,
    *,
    inside: Mapping[str, Array] | None = None,
    extra: Sequence[bytes] = (),
) -> bytes:
    """An ONNX file. With `weights_file` its weights are in a file of that name next to it, except
    for those `inside`; `extra` are nodes with attributes, as written by `node`."""
    graph = [field(1, each) for each in (*(node(*each) for each in nodes), *extra)]
    graph.append(field(2, b"graph"))
    offset = 0
    for name, array in (weights or {}).items():
        graph.append(field(5, weight(name, array, weights_file, offset)))
        offset += array.nbytes
    graph += [field(5, weight(name, array, None, 0)) for name, array in (inside or {}).items()]
    graph += [field(11, value_info(each)) for each in signature.inputs]
    graph += [field(12, value_info(each)) for each in signature.outputs]
    return field(1, 8) + field(7, b"".join(graph)) + field(8, field(1, b"") + field(2, 17))


def node(
    operator: str, inputs: Sequence[str], outputs: Sequence[str], attributes: bytes = b""
) -> bytes:
    names = [field(1, name.encode()) for name in inputs]
    names += [field(2, name.encode()) for name in outputs]
    return b"".join(names) + field(4, operator.encode()) + attributes


def graph_attribute(
    name: str,
    nodes: Sequence[Node],
    inputs: Sequence[TensorSpec],
    outputs: Sequence[TensorSpec],
) -> bytes:
    """The attribute of a node that runs a graph, such as the body of a loop."""
    graph = [field(1, node(*each)) for each in nodes] + [field(2, name.encode())]
    graph += [field(11, value_info(each)) for each in inputs]
    graph += [field(12, value_info(each)) for each in outputs]
    return field(5, field(1, name.encode()) + field(6, b"".join(graph)) + field(20, 5))


def weight(name: str, array: Array, weights_file: str | None, offset: int) -> bytes:
    head = b"".join(field(1, size) for size in array.shape)
    head += field(2, ELEMENT_TYPES[array.dtype.name]) + field(8, name.encode())
    if weights_file is None:
        return head + field(9, array.tobytes())
    place = {"location": weights_file, "offset": str(offset), "length": str(array.nbytes)}
    pairs = [field(1, key.encode()) + field(2, value.encode()) for key, value in place.items()]
    return head + b"".join(field(13, pair) for pair in pairs) + field(14, 1)


def value_info(tensor: TensorSpec) -> bytes:
    dims = [
        field(1, size) if isinstance(size, int) else field(2, size.encode())
        for size in tensor.shape
    ]
    shape = field(2, b"".join(field(1, dim) for dim in dims))
    element = field(1, ELEMENT_TYPES[tensor.dtype.name])
    return field(1, tensor.name.encode()) + field(2, field(1, element + shape))


def field(number: int, value: int | bytes) -> bytes:
    """A protobuf field: an integer, or bytes with their length before them."""
    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def varint(value: int) -> bytes:
    value %= 2**64  # negative numbers are written as 64-bit two's complement
    head = bytearray()
    while value >= 0x80:
        head.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(head) + bytes([value])
