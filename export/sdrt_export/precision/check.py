"""Finds precision problems that the rules miss: runs the network and promotes nodes to float32.

It runs the float32 graph and the half-precision graph, in which each rounding is a node
(`rounding_model`), on seeded inputs. Two findings promote nodes:

* A tensor whose float32 values do not fit, with `HEADROOM`: the nodes that write it and read it
  become float32.
* An output below `MIN_PSNR`, or with NaN or infinity: the nodes that introduce the error, whose
  outputs are below `MIN_PSNR` although every input is above it.

If that does not help, the whole component stays float32.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto

from sdrt.arrays import psnr_of
from sdrt_engines import Array
from sdrt_export.errors import BuildError
from sdrt_export.external_data import array_of
from sdrt_export.precision.float_graph import FloatGraph, NodeName, float_graph_from_model
from sdrt_export.precision.policy import HalfType, Precision, Rules
from sdrt_export.precision.probing import largest_of, tensors_of
from sdrt_export.precision.rounding import rounding_model
from sdrt_export.precision.typed_graph import (
    INFINITE,
    LARGEST,
    half_from_float,
    kept_by_rules,
    load_for,
    write_typed,
)

MIN_PSNR = 30.0  # dB of each output, compared with float32
MAX_ROUNDS = 4
# Real inputs give larger values than the cases: on the demo model, up to 6.5 times as large.
HEADROOM = 8.0
MAX_TENSORS = 1000  # in memory at once, in both precisions

Feeds = Mapping[str, Array]


@dataclass(frozen=True)
class PrecisionReport:
    """A component's precision. `promoted` are the nodes beyond the rules, by their output."""

    precision: Precision
    promoted: tuple[NodeName, ...]
    psnr: float  # dB, the worst output; infinite if nothing was changed
    reason: str | None = None  # why everything stays float32


def write_half(
    model_path: Path, folder: Path, half: HalfType, rules: Rules, cases: Sequence[Feeds]
) -> PrecisionReport:
    """Writes `model.onnx` and its weights into `folder`, in half precision as far as possible.

    `cases` are the inputs to try. BuildError if float32 itself gives NaN or infinity.
    """
    check = _Check(model_path, folder, half, cases)
    if rules.everything is None:
        report = _promote(check, kept_by_rules(check.graph, rules))
        if report is not None:
            return report
    check.write_float32()
    reason = rules.everything or f"in {half} its outputs are below {MIN_PSNR:.0f} dB"
    return PrecisionReport("fp32", (), math.inf, reason)


def _promote(check: _Check, kept: set[NodeName]) -> PrecisionReport | None:
    """Writes the graph with more and more nodes in float32 until it is precise enough.

    None if no further node to promote is found, or `MAX_ROUNDS` are not enough.
    """
    promoted = check.overflowing() - kept
    for _ in range(MAX_ROUNDS):
        attempt = check.attempt(kept | promoted)
        if attempt.psnr >= MIN_PSNR:
            return PrecisionReport(check.half, _in_order(check.graph, promoted), attempt.psnr)
        origins = check.origins_of_error(attempt)
        if not origins:
            break
        promoted |= origins
    return None


def write_known(model_path: Path, folder: Path, report: PrecisionReport, rules: Rules) -> None:
    """Writes the graph of an earlier `write_half` from its report, without running anything."""
    half: HalfType = "fp16" if report.precision == "fp32" else report.precision
    graph = float_graph_from_model(load_for(model_path, half))
    kept = graph.names if report.precision == "fp32" else kept_by_rules(graph, rules)
    typed = half_from_float(graph, half, kept | set(report.promoted))
    write_typed(typed, model_path.parent, folder)


@dataclass(frozen=True)
class _Attempt:
    """A half-precision graph that was written and run."""

    kept: frozenset[NodeName]  # in float32
    rounded: ModelProto  # the graph with each rounding as a node; its weights are in the folder
    psnr: float  # dB, the worst output; 0 for NaN


class _Check:
    """The float32 network, its outputs, and the folder for half-precision versions of it."""

    def __init__(
        self, model_path: Path, folder: Path, half: HalfType, cases: Sequence[Feeds]
    ) -> None:
        self.model = load_for(model_path, half)
        self.graph = float_graph_from_model(self.model)
        self.weights_folder, self.folder = model_path.parent, folder
        self.half, self.cases = half, cases
        self._ends = [name for name in self.graph.outputs if name in self.graph.floats]
        self._inner = [n for node in self.graph.nodes for n in self.graph.float_outputs(node)]
        self.expected = [*tensors_of(self.model, self.weights_folder, self._ends, cases)]
        for outputs in self.expected:
            for name, array in outputs.items():
                if not np.isfinite(array).all():
                    raise BuildError(
                        f"'{name}' holds NaN or infinity even in float32: "
                        "export the checkpoint again"
                    )

    def overflowing(self) -> set[NodeName]:
        """The nodes that write or read a tensor or weight which does not fit."""
        too_large = {name for name in self.graph.weights if self._weight_overflows(name)}
        too_large |= self._loud_tensors(LARGEST[self.half] / HEADROOM)
        nodes = [self.graph.producer[name] for name in too_large if name in self.graph.producer]
        nodes += [user for name in too_large for user in self.graph.consumers[name]]
        return {node.output[0] for node in nodes}

    def attempt(self, kept: set[NodeName]) -> _Attempt:
        """Writes the graph with `kept` in float32, and runs it."""
        rounded = rounding_model(onnx.load(self._write(kept), load_external_data=False))
        got = tensors_of(rounded, self.folder, self._ends, self.cases)
        psnr = min(
            psnr_within(expected[name], outputs[name])
            for expected, outputs in zip(self.expected, got, strict=True)
            for name in expected
        )
        return _Attempt(frozenset(kept), rounded, psnr)

    def origins_of_error(self, attempt: _Attempt) -> set[NodeName]:
        """The half-precision nodes whose output is below `MIN_PSNR` although no input is."""
        psnr: dict[str, float] = {}
        for start in range(0, len(self._inner), MAX_TENSORS):
            psnr |= self._psnr_inside(attempt, self._inner[start : start + MAX_TENSORS])
        return {
            node.output[0]
            for node in self.graph.nodes
            if node.output[0] not in attempt.kept
            and any(psnr[name] < MIN_PSNR for name in self.graph.float_outputs(node))
            and all(psnr.get(name, math.inf) >= MIN_PSNR for name in node.input)
        }

    def _psnr_inside(self, attempt: _Attempt, names: Sequence[str]) -> dict[str, float]:
        psnr = dict.fromkeys(names, math.inf)
        exact = tensors_of(self.model, self.weights_folder, names, self.cases)
        rounded = tensors_of(attempt.rounded, self.folder, names, self.cases)
        for expected, got in zip(exact, rounded, strict=True):
            psnr = {name: min(psnr[name], psnr_within(expected[name], got[name])) for name in psnr}
        return psnr

    def write_float32(self) -> None:
        """Writes the graph with everything in float32."""
        self._write(self.graph.names)

    def _write(self, kept: set[NodeName]) -> Path:
        return write_typed(
            half_from_float(self.graph, self.half, kept), self.weights_folder, self.folder
        )

    def _weight_overflows(self, name: str) -> bool:
        tensor = self.graph.weights[name]
        if name not in self.graph.floats or tensor.data_type != onnx.TensorProto.FLOAT:
            return False
        return _exceeds(array_of(tensor, self.weights_folder), LARGEST[self.half])

    def _loud_tensors(self, limit: float) -> set[str]:
        largest = largest_of(self.model, self.weights_folder, self._inner, self.cases)
        loud = {name for name, size in largest.items() if limit < size < INFINITE}
        masked = [name for name, size in largest.items() if size >= INFINITE]
        tensors_with_masks = tensors_of(self.model, self.weights_folder, masked, self.cases)
        for tensors in tensors_with_masks if masked else ():
            loud |= {name for name, array in tensors.items() if _exceeds(array, limit)}
        return loud


def _exceeds(array: Array, limit: float) -> bool:
    """True if a value lies above the limit, in size, and is not a mask's infinity."""
    size = np.abs(array)
    return bool(((size > limit) & (size < INFINITE)).any())


def psnr_within(expected: Array, got: Array) -> float:
    """The PSNR without the infinities of masks; 0 dB for NaN."""
    if not np.isfinite(got).all():
        return math.inf if np.array_equal(expected, got, equal_nan=True) else 0.0
    finite = np.abs(expected) < INFINITE
    return psnr_of(expected[finite], got[finite])


def _in_order(graph: FloatGraph, nodes: set[NodeName]) -> tuple[NodeName, ...]:
    return tuple(node.output[0] for node in graph.nodes if node.output[0] in nodes)
