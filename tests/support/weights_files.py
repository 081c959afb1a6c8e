"""Safetensors files for tests: whole headers of real models, whose numbers take no disk."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Shape: TypeAlias = tuple[int, ...]
Tensor: TypeAlias = Shape | npt.NDArray[Any]

_NAMES = {"f2": "F16", "f4": "F32", "f8": "F64", "i4": "I32", "i8": "I64", "u1": "U8"}
_BYTES = {"F16": 2, "BF16": 2, "F32": 4, "F64": 8, "I32": 4, "I64": 8, "U8": 1}


def write_weights(
    path: Path,
    tensors: Mapping[str, Tensor],
    dtype: str = "F16",
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Writes tensors: arrays as they are, shapes as zeros of `dtype` in a hole of the file."""
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    end = 0
    for name, tensor in tensors.items():
        kind = dtype if isinstance(tensor, tuple) else _NAMES[tensor.dtype.str[1:]]
        shape = tensor if isinstance(tensor, tuple) else tensor.shape
        begin, end = end, end + math.prod(shape) * _BYTES[kind]
        header[name] = {"dtype": kind, "shape": list(shape), "data_offsets": [begin, end]}
    start = header_bytes(header)
    with path.open("wb") as file:
        file.write(start)
        file.truncate(len(start) + end)
        for name, tensor in tensors.items():
            if not isinstance(tensor, tuple):
                file.seek(len(start) + header[name]["data_offsets"][0])
                file.write(np.ascontiguousarray(tensor).tobytes())
    return path


def header_bytes(header: object) -> bytes:
    """The beginning of a safetensors file, with this JSON as its header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text
