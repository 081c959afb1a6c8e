"""Ranges of the tensors inside a network, over recorded calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from onnx import ModelProto, helper

from sdrt_engines import Array
from sdrt_export.precision.probing import tensors_of

_NOTHING = 1e-20  # a range that is narrower counts as zeros


@dataclass(frozen=True)
class Range:
    """The least and the greatest value; 0 lies between them."""

    low: float
    high: float

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
    ends = {name: (f"{name}.low", f"{name}.high") for name in names}
    for name, (low, high) in ends.items():
        measured.graph.node.append(helper.make_node("ReduceMin", [name], [low], keepdims=0))
        measured.graph.node.append(helper.make_node("ReduceMax", [name], [high], keepdims=0))
    wanted = [end for pair in ends.values() for end in pair]
    found = list(tensors_of(measured, folder, wanted, cases, fast=True))
    return {
        name: Range(
            min(0.0, *(float(each[low]) for each in found)),
            max(0.0, *(float(each[high]) for each in found)),
        )
        for name, (low, high) in ends.items()
    }
