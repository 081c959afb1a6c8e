"""Inputs and outputs of a network: names, dtypes, shapes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from sdrt_engines.errors import TensorError, did_you_mean

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Shape: TypeAlias = tuple[int, ...]

_DTYPE_NAMES = "float16 float32 float64 bool int8 int16 int32 int64 uint8 uint16 uint32 uint64"
DTYPES = {name: np.dtype(name) for name in _DTYPE_NAMES.split()}  # that a tensor may have


class DeviceArray(ABC):
    """An array that stayed on the device where it was computed.

    It belongs to its holder, and its memory is freed with the last reference to it.
    """

    def __init__(self, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        self.dtype, self.shape = dtype, shape

    @abstractmethod
    def numpy(self) -> Array:
        """A copy of it in host memory."""


_ARRAYS = (np.ndarray, DeviceArray)


def to_host(array: Array | DeviceArray) -> Array:
    """The array itself, or a host copy of a device array."""
    return array.numpy() if isinstance(array, DeviceArray) else array


@dataclass(frozen=True)
class TensorSpec:
    """One input or output. In `shape` an int is fixed; a str names a size that each run sets.

    >>> str(TensorSpec("sample", np.dtype(np.float32), ("B", 4, "h", "w")))
    'float32 (B, 4, h, w)'
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | str, ...]

    def __post_init__(self) -> None:
        if not self.name:
            raise TensorError("a tensor needs a name, got ''")
        if not isinstance(self.dtype, np.dtype):
            raise TensorError(
                f"tensor '{self.name}': dtype must be a numpy dtype, got {self.dtype!r}: "
                "write np.dtype(...)"
            )
        for dim in self.shape:
            if not ((isinstance(dim, str) and dim) or (type(dim) is int and dim > 0)):
                raise TensorError(
                    f"tensor '{self.name}': a dimension is a positive int or a name, got {dim!r}"
                )

    def __str__(self) -> str:
        return f"{self.dtype} {shape_text(self.shape)}"

    def mismatch(self, array: object, sizes: dict[str, int]) -> str | None:
        """The reason why `array` does not fit, or None.

        `sizes` holds the symbolic dimensions of this run; new ones are added to it.
        """
        if not isinstance(array, _ARRAYS):
            return "it must be a numpy array: wrap it in np.asarray"
        if array.dtype != self.dtype:
            return f"convert it with .astype('{self.dtype}')"
        return self.shape_mismatch(array.shape, sizes)

    def shape_mismatch(self, shape: tuple[int, ...], sizes: dict[str, int]) -> str | None:
        """The part of `mismatch` about the shape."""
        if len(shape) != len(self.shape):
            return f"it must have {len(self.shape)} dimensions, not {len(shape)}"
        for axis, dim in enumerate(self.shape):
            size = shape[axis]
            expected = sizes.setdefault(dim, size) if isinstance(dim, str) else dim
            if size != expected:
                because = f", the {dim} of this run" if isinstance(dim, str) else ""
                return f"dimension {axis} must be {expected}{because}, not {size}"
            if size == 0:
                return f"dimension {axis} must not be empty"
        return None


@dataclass(frozen=True)
class Signature:
    """The inputs and outputs of one network. Names are unique among inputs and among outputs."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def __post_init__(self) -> None:
        for role, specs in (("input", self.inputs), ("output", self.outputs)):
            names = [spec.name for spec in specs]
            for name in names:
                if names.count(name) > 1:
                    raise TensorError(f"a signature has two {role}s named '{name}'")

    def input(self, name: str) -> TensorSpec:
        """The input called `name`; TensorError with the nearest name if it does not exist."""
        return _named(name, self.inputs, "input")

    def output(self, name: str) -> TensorSpec:
        """The output called `name`; TensorError with the nearest name if it does not exist."""
        return _named(name, self.outputs, "output")


def shape_text(shape: tuple[int | str, ...]) -> str:
    """`(B, 4, h, w)`: a tuple as Python writes it, without quotes around the names."""
    return f"({', '.join(map(str, shape))}{',' if len(shape) == 1 else ''})"


def feeds_text(feeds: Mapping[str, Any]) -> str:
    """`sample (2, 4), timestep (2,)`: the shapes of a run's feeds, for an error message."""
    return ", ".join(f"{name} {shape_text(tuple(feed.shape))}" for name, feed in feeds.items())


def _named(name: str, specs: tuple[TensorSpec, ...], role: str) -> TensorSpec:
    for spec in specs:
        if spec.name == name:
            return spec
    raise TensorError(f"no {role} '{name}': {did_you_mean(name, (spec.name for spec in specs))}")
