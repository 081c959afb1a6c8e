"""The types of numbers in safetensors files, and how numpy reads each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Array: TypeAlias = npt.NDArray[Any]
Bytes: TypeAlias = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class NumberType:
    """A type that the format names."""

    bits: int
    read: Callable[[Bytes], Array] | None = None  # None for those of which sdrt needs only the size


def _read_as(dtype: str) -> Callable[[Bytes], Array]:
    """Reads a type of numpy: floats as float32, anything else as it is."""
    stored = np.dtype(dtype)
    read = np.dtype(np.float32) if stored.kind == "f" else stored.newbyteorder("=")
    return lambda data: _cast(data.view(stored), read)


def _cast(values: Array, dtype: np.dtype[Any]) -> Array:
    with np.errstate(over="ignore"):  # a float64 that is too large becomes infinite
        return values.astype(dtype, copy=False)


def _from_bfloat16(data: Bytes) -> Array:
    """The same numbers: a bfloat16 is the upper half of a float32."""
    return (data.view("<u2").astype(np.uint32) << 16).view(np.float32)


def _from_e5m2(data: Bytes) -> Array:
    """The same numbers: a float8 with five bits of exponent is the upper half of a float16."""
    return (data.astype(np.uint16) << 8).view(np.float16).astype(np.float32)


def _from_e4m3(data: Bytes) -> Array:
    return _e4m3_numbers()[data]


@cache
def _e4m3_numbers() -> Array:
    """The number that each byte means. There is no infinity; all bits set mean NaN.

    Source: Micikevicius et al. 2022, FP8 Formats for Deep Learning, table 1.
    """
    codes = np.arange(128)
    exponent, mantissa = codes >> 3, codes & 7
    normal, subnormal = np.ldexp(8.0 + mantissa, exponent - 10), np.ldexp(1.0 * mantissa, -9)
    positive = np.where(exponent > 0, normal, subnormal)
    positive[-1] = np.nan
    return np.concatenate([positive, -positive]).astype(np.float32)


_PLAIN = {  # numpy's names
    "BOOL": "?",
    "U8": "u1",
    "U16": "<u2",
    "U32": "<u4",
    "U64": "<u8",
    "I8": "i1",
    "I16": "<i2",
    "I32": "<i4",
    "I64": "<i8",
    "F16": "<f2",
    "F32": "<f4",
    "F64": "<f8",
}
NUMBER_TYPES: Mapping[str, NumberType] = {
    **{name: NumberType(8 * np.dtype(t).itemsize, _read_as(t)) for name, t in _PLAIN.items()},
    "BF16": NumberType(16, _from_bfloat16),
    "F8_E5M2": NumberType(8, _from_e5m2),
    "F8_E4M3": NumberType(8, _from_e4m3),
    **{name: NumberType(8) for name in ("F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ")},
    **{name: NumberType(6) for name in ("F6_E2M3", "F6_E3M2")},
    "F4": NumberType(4),
    "C64": NumberType(64),
}
READABLE = tuple(name for name, number in NUMBER_TYPES.items() if number.read)
