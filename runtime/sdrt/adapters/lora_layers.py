"""The changes of weights by a LoRA, computed when they are asked for.

Formulas: LoRA (Hu et al. 2021); LoHa and LoKr (Yeh et al. 2023, LyCORIS); DoRA (Liu et al. 2024).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt

from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.errors import FileError, quoted

Array: TypeAlias = npt.NDArray[np.floating[Any]]
Shape: TypeAlias = tuple[int, ...]

DAMAGED: Final = "the file is damaged: get it again, or use another one"


@dataclass(frozen=True)
class StoredTensor:
    """A tensor of a file, read at each use."""

    file: SafetensorsFile
    name: str

    @property
    def shape(self) -> Shape:
        return self.file.tensors[self.name].shape

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    def require_matrix(self) -> None:
        """FileError if it is a scalar, or empty."""
        if not self.shape or not self.size:
            raise FileError(
                f"{self.file.path}: {quoted(self.name)} has the shape {list(self.shape)}, expected "
                f"a matrix: {DAMAGED}"
            )

    @property
    def rows(self) -> int:
        self.require_matrix()
        return self.shape[0]

    @property
    def columns(self) -> int:
        return self.size // self.rows

    def read(self) -> Array:
        """Its values as float32. FileError if one is NaN or infinite."""
        values = self.file.read(self.name).astype(np.float32, copy=False)
        if not np.isfinite(values).all():
            raise FileError(
                f"{self.file.path}: {quoted(self.name)} holds NaN or infinity: {DAMAGED}"
            )
        return values

    def matrix(self) -> Array:
        return self.read().reshape(self.rows, self.columns)


class Update(ABC):
    """A matrix that is added to a weight, in parts that are smaller than the weight."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """The shape of the matrix: that of the weight, or the same with its kernel flattened."""

    @property
    @abstractmethod
    def rank(self) -> int | None:
        """The rank by which `alpha` is divided; None if it is not."""

    @abstractmethod
    def values(self) -> Array: ...


@dataclass(frozen=True)
class Whole(Update):
    """A difference of weights as it is."""

    tensor: StoredTensor

    def __post_init__(self) -> None:
        self.tensor.require_matrix()

    @property
    def shape(self) -> Shape:
        return self.tensor.shape

    @property
    def rank(self) -> None:
        return None

    def values(self) -> Array:
        return self.tensor.read()


@dataclass(frozen=True)
class LowRank(Update):
    """up @ down; with a core, Tucker's decomposition of a convolution: its kernel is the core's.

    `up` is (out, r), or (r, out) if `transposed`; `down` is (r, in) or (r, in, kh, kw); `core` is
    (r, r, kh, kw).
    """

    up: StoredTensor
    down: StoredTensor
    core: StoredTensor | None = None
    transposed: bool = False

    def __post_init__(self) -> None:
        ranks = (self.up.rows if self.transposed else self.up.columns, self.down.rows)
        if ranks != (ranks[::-1] if self.core is None else self.core.shape[:2]):
            raise _disagreement("ranks", self.up, self.down, self.core)

    @property
    def shape(self) -> Shape:
        out = self.up.columns if self.transposed else self.up.rows
        if self.core is None:
            return out, *self.down.shape[1:]
        return out, self.down.columns, *self.core.shape[2:]

    @property
    def rank(self) -> int:
        return self.down.rows

    def values(self) -> Array:
        up = self.up.matrix().T if self.transposed else self.up.matrix()
        if self.core is None:
            return (up @ self.down.matrix()).reshape(self.shape)
        narrow = np.tensordot(up, self.core.read(), axes=(1, 0))  # (out, r, kh, kw)
        return np.moveaxis(np.tensordot(narrow, self.down.matrix(), axes=(1, 0)), -1, 1)


@dataclass(frozen=True)
class Hadamard(Update):
    """LoHa: the product of two low-rank matrices, element by element."""

    first: LowRank
    second: LowRank

    def __post_init__(self) -> None:
        if self.first.shape != self.second.shape:
            raise _disagreement("sizes", self.first.up, self.first.down, self.second.up)

    @property
    def shape(self) -> Shape:
        return self.first.shape

    @property
    def rank(self) -> int:
        return self.first.rank

    def values(self) -> Array:
        return self.first.values() * self.second.values()


@dataclass(frozen=True)
class Kronecker(Update):
    """LoKr: the Kronecker product of two matrices, whole or of low rank."""

    first: Update
    second: Update

    @property
    def shape(self) -> Shape:
        (a, *c), (b, *d) = self.first.shape, self.second.shape
        return a * b, math.prod(c) * math.prod(d)

    @property
    def rank(self) -> int | None:
        return self.second.rank or self.first.rank

    def values(self) -> Array:
        first, second = self.first.values(), self.second.values()
        return np.kron(first.reshape(len(first), -1), second.reshape(len(second), -1))


@dataclass(frozen=True)
class Magnitude:
    """DoRA's lengths: each row of the weight gets one, or each column if `of_inputs`.

    `fades` says what a scale means. peft scales what is added before the lengths are set; A1111 and
    ComfyUI move the weight a part of the way to that of scale 1.
    """

    lengths: StoredTensor
    of_inputs: bool = False
    fades: bool = False

    def set_on(self, weight: Array, change: Array, scale: float) -> Array:
        """The weight with the change, at that scale."""
        moved = weight + np.float32(1 if self.fades else scale) * change
        axes = tuple(axis for axis in range(moved.ndim) if axis != int(self.of_inputs))
        norms = np.sqrt(np.square(moved).sum(axes, keepdims=True))
        lengths = self.lengths.read().reshape(norms.shape)
        result: Array = moved * (lengths / np.maximum(norms, np.finfo(np.float32).tiny))
        return weight + np.float32(scale) * (result - weight) if self.fades else result


@dataclass(frozen=True)
class LayerDelta:
    """The change of one weight by a LoRA: `ratio` is its alpha divided by its rank."""

    update: Update
    ratio: float = 1.0
    magnitude: Magnitude | None = None

    def fits(self, shape: Shape) -> bool:
        """True if it can change a weight of that shape; a kernel of 1×1 may be missing."""
        if _flat(self.update.shape) != _flat(shape):
            return False
        lengths = self.magnitude
        return lengths is None or lengths.lengths.size == shape[int(lengths.of_inputs)]

    def merged(self, weight: Array, scale: float) -> Array:
        """The weight with what the LoRA adds at that scale, both float32."""
        change = self.update.values().reshape(weight.shape)
        if self.magnitude is not None:
            return self.magnitude.set_on(weight, np.float32(self.ratio) * change, scale)
        change *= np.float32(scale * self.ratio)  # in place: it is as large as the weight
        change += weight
        return change


def _flat(shape: Shape) -> Shape:
    return shape[0], math.prod(shape[1:])


def _disagreement(what: str, *tensors: StoredTensor | None) -> FileError:
    given = [tensor for tensor in tensors if tensor is not None]
    listed = ", ".join(f"{quoted(tensor.name)} {list(tensor.shape)}" for tensor in given)
    return FileError(
        f"{given[0].file.path}: the {what} of {listed} do not fit each other: {DAMAGED}"
    )
