"""Safetensors files, read with numpy one tensor at a time, bfloat16 and float8 included.

Format: https://huggingface.co/docs/safetensors
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BufferedReader
from os import PathLike
from pathlib import Path

import numpy as np

from sdrt.adapters.number_types import NUMBER_TYPES, READABLE, Array, Bytes
from sdrt.adapters.other_formats import refusal_of_other
from sdrt.errors import FileError, SdrtError, quoted
from sdrt.files.json_fields import FieldError, JsonFields, wrong_value
from sdrt_engines.regular_file import FileIdentity, open_regular

_MAX_HEADER = 100_000_000  # bytes, as in the safetensors library
_MAX_DIMENSIONS = 32  # of an array in numpy 1
_METADATA = "__metadata__"
_AGAIN = "download or save it again"


@dataclass(frozen=True)
class TensorInfo:
    """A tensor's type, as the format names it, its shape, and its place in the file in bytes."""

    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


@dataclass(frozen=True)
class SafetensorsFile:
    """A safetensors file whose header has been checked."""

    path: Path
    tensors: Mapping[str, TensorInfo]
    metadata: Mapping[str, str]
    data_begin: int  # in the file: the end of its header
    identity: FileIdentity = field(repr=False)  # to notice another file in its place

    @classmethod
    def open(cls, path: str | PathLike[str]) -> SafetensorsFile:
        """The file at `path`, of which only the header is read.

        FileError if it is not a regular file, not safetensors, truncated or malformed.
        """
        path = Path(path)
        with _opened(path) as file:
            identity = _identity(file)
            text = _header(path, file)
        data_begin = 8 + len(text)
        try:
            fields = JsonFields.parse(text)
            metadata = _metadata(fields.values.pop(_METADATA, None) or {})
            tensors = {name: _info(name, fields, data_begin) for name in fields.values}
            _check_places(tensors, data_begin, identity.size)
        except SdrtError as error:
            raise FileError(
                f"{path}: not a complete safetensors file: {error}: {_AGAIN}"
            ) from error
        return cls(path, tensors, metadata, data_begin, identity)

    @property
    def size(self) -> int:
        """The size of the file in bytes."""
        return self.identity.size

    def read(self, name: str) -> Array:
        """One tensor: floating-point numbers as float32, integers as stored.

        FileError if the file lacks it or has changed, or if the type is not one that sdrt reads.
        """
        info = self.tensors.get(name)
        if info is None:
            raise FileError(f"'{self.path}' has no tensor {quoted(name)}")
        read = NUMBER_TYPES[info.dtype].read
        if read is None:
            raise FileError(
                f"{self.path}: {quoted(name)} is of type {info.dtype}, expected one of "
                f"{', '.join(READABLE)}: save the file in one of them"
            )
        return read(self._bytes(info)).reshape(info.shape)

    @contextmanager
    def opened(self) -> Iterator[BufferedReader]:
        """The same file, opened for reading. FileError if another one has taken its place."""
        with _opened(self.path) as file:
            if _identity(file) != self.identity:
                raise FileError(f"'{self.path}' has changed since it was opened: try again")
            yield file

    def _bytes(self, info: TensorInfo) -> Bytes:
        data = np.empty(info.end - info.begin, np.uint8)
        with self.opened() as file:
            file.seek(info.begin)
            if file.readinto(data.data) != len(data):
                raise FileError(f"'{self.path}' was cut off while it was read: try again")
        return data


@contextmanager
def _opened(path: Path) -> Iterator[BufferedReader]:
    try:
        with open_regular(path) as file:
            yield file
    except OSError as error:
        raise FileError(f"{path}: cannot be read: {error.strerror or error}") from error


def _identity(file: BufferedReader) -> FileIdentity:
    return FileIdentity.of(os.fstat(file.fileno()))


def _header(path: Path, file: BufferedReader) -> bytes:
    """The JSON text at the beginning of the file."""
    start = file.read(9)
    length = int.from_bytes(start[:8], "little")
    if not 2 <= length <= _MAX_HEADER or start[8:] != b"{":
        raise FileError(refusal_of_other(path, start + file.read(256)))
    text = b"{" + file.read(length - 1)
    if len(text) < length:
        raise FileError(
            f"{path}: not a complete safetensors file: it ends within its header, "
            f"after {8 + len(text)} bytes of {8 + length}: {_AGAIN}"
        )
    return text


def _metadata(value: object) -> dict[str, str]:
    if not isinstance(value, dict):
        raise wrong_value(_METADATA, value, "an object")
    fields = JsonFields(value)
    return {name: _text(fields, name) for name in value}


def _text(fields: JsonFields, name: str) -> str:
    return fields.text(name) if fields.values[name] != "" else ""


def _info(name: str, fields: JsonFields, data_begin: int) -> TensorInfo:
    return fields.convert(name, lambda entry: _info_from_entry(entry, data_begin))


def _info_from_entry(entry: JsonFields, data_begin: int) -> TensorInfo:
    dtype = entry.text("dtype")
    if dtype not in NUMBER_TYPES:
        raise FieldError(f"dtype: got {quoted(dtype)}, expected one of {', '.join(NUMBER_TYPES)}")
    shape, offsets = _sizes(entry, "shape"), _sizes(entry, "data_offsets")
    if len(shape) > _MAX_DIMENSIONS:
        raise FieldError(f"shape: got {len(shape)} dimensions, expected at most {_MAX_DIMENSIONS}")
    size = -(-math.prod(shape) * NUMBER_TYPES[dtype].bits // 8)
    if len(offsets) != 2 or offsets[1] - offsets[0] != size:
        raise FieldError(f"data_offsets: got {quoted(list(offsets))}, expected {size} bytes")
    return TensorInfo(dtype, shape, data_begin + offsets[0], data_begin + offsets[1])


def _sizes(entry: JsonFields, name: str) -> tuple[int, ...]:
    values = entry.array(name)
    for index, value in enumerate(values):
        if type(value) is not int or value < 0:
            raise wrong_value(f"{name}[{index}]", value, "a size")
    return tuple(values)


def _check_places(tensors: Mapping[str, TensorInfo], begin: int, size: int) -> None:
    """FieldError unless the tensors fill the file, one after the other."""
    end = begin
    for name, info in sorted(tensors.items(), key=lambda item: (item[1].begin, item[1].end)):
        if info.begin != end:
            kind = "overlaps the tensor before" if info.begin < end else "leaves a hole before"
            raise FieldError(f"{quoted(name)} {kind} it (byte {info.begin}, expected {end})")
        end = info.end
    if end != size:
        raise FieldError(f"got {size} bytes, expected {end}")
