"""Ranges and sizes of the tensors inside a network, over recorded calls."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper

from sdrt_engines import Array
from sdrt_export.precision.probing import tensors_of

_NOTHING = 1e-20  # a range that is narrower counts as zeros


@dataclass(frozen=True)
class Range:
    """The least and the greatest value, with 0 between them, of a tensor of `size` numbers."""

    low: float
    high: float
    size: int

    @property
    def scale(self) -> np.float32:
        """The step between the 256 numbers of uint8."""
        width = self.high - self.low
        return np.float32(width / 255 if width > _NOTHING else 1)

    @property
    def zero_point(self) -> np.uint8:
        return np.uint8(np.clip(np.rint(-self.low / self.scale), 0, 255))


def ranges_of(
    model: ModelProto, folder: Path, names: Sequence[str], cases: Iterable[Mapping[str, Array]]
) -> dict[str, Range]:
    """The range of each tensor over all cases. The graph itself computes it: no tensor is kept."""
    measured = ModelProto()
    measured.CopyFrom(model)
    measured.graph.node.extend(node for name in names for node in _measuring(name))
    wanted = [f"{name}.{what}" for name in names for what in ("low", "high", "size")]
    found = list(tensors_of(measured, folder, wanted, cases, fast=True))
    return {
        name: Range(
            min(0.0, *(float(each[f"{name}.low"]) for each in found)),
            max(0.0, *(float(each[f"{name}.high"]) for each in found)),
            max(int(each[f"{name}.size"]) for each in found),
        )
        for name in names
    }


def _measuring(name: str) -> Iterator[NodeProto]:
    yield helper.make_node("ReduceMin", [name], [f"{name}.low"], keepdims=0)
    yield helper.make_node("ReduceMax", [name], [f"{name}.high"], keepdims=0)
    yield helper.make_node("Size", [name], [f"{name}.count"])
    yield helper.make_node("Cast", [f"{name}.count"], [f"{name}.size"], to=TensorProto.FLOAT)
