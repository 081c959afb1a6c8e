"""Tensors of an ONNX file: large ones in a data file, aligned to pages, small ones in the model."""

from __future__ import annotations

import math
from pathlib import Path
from typing import BinaryIO

import numpy as np
from onnx import TensorProto, helper, numpy_helper

from sdrt_engines import Array

DATA_NAME = "model.onnx_data"  # optimum's name
PAGE = 4096  # bytes; smaller tensors stay in model.onnx, others start at a page, for mapping


def initializer(name: str, array: Array, data: BinaryIO) -> TensorProto:
    """The array as an initializer; a large one is written to `data`, the file `DATA_NAME`."""
    if array.nbytes < PAGE:
        return numpy_helper.from_array(array, name)
    offset = -(-data.tell() // PAGE) * PAGE
    data.seek(offset)
    data.write(array.reshape(-1).view(np.uint8).data)  # bfloat16 has no buffer of its own
    proto = TensorProto(
        name=name,
        data_type=helper.np_dtype_to_tensor_dtype(array.dtype),
        dims=array.shape,
        data_location=TensorProto.EXTERNAL,
    )
    place = {"location": DATA_NAME, "offset": offset, "length": array.nbytes}
    for key, value in place.items():
        proto.external_data.add(key=key, value=str(value))
    return proto


def array_of(tensor: TensorProto, folder: Path) -> Array:
    """The values of an initializer of an ONNX file in `folder`."""
    if tensor.data_location != TensorProto.EXTERNAL:
        return np.asarray(numpy_helper.to_array(tensor))
    dtype = helper.tensor_dtype_to_np_dtype(tensor.data_type)
    with opened_at(tensor, folder) as data:
        values = data.read(num_bytes(tensor))
    return np.frombuffer(values, dtype).reshape(tuple(tensor.dims))


def opened_at(tensor: TensorProto, folder: Path) -> BinaryIO:
    """The data file of an ONNX file in `folder`, where the values of the tensor begin.

    onnx's own reader refuses a data file that has a second name on the disk, as have the files of
    `unlinked` and of bundles that were copied by hard links.
    """
    place: dict[str, str] = {entry.key: entry.value for entry in tensor.external_data}
    data = (folder / place["location"]).open("rb")
    data.seek(int(place.get("offset", 0)))
    return data


def num_bytes(tensor: TensorProto) -> int:
    """The bytes of its values."""
    dtype = np.dtype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
    return math.prod(map(int, tensor.dims)) * dtype.itemsize
