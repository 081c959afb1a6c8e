"""The layers of a denoiser that stay float, found by the error of its outputs.

All layers compute in int8 if that is close enough to float32 on the recorded calls. If not, groups
of neighbouring layers are tried in int8, one group at a time, and then each layer of the groups
that cause most of the error; mostly a few layers near the output do. Those that cause most of it
for their work stay float: as few as are enough, within a share of all work.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import TypeAlias

from onnx import TensorProto

from sdrt.arrays import psnr_of
from sdrt.bundle.optimum_folder import MODEL_NAME
from sdrt.files.drafts import scratch_in
from sdrt_engines import Array, engine_from_onnx
from sdrt_export.errors import BuildError
from sdrt_export.external_data import DATA_NAME, initializer
from sdrt_export.options import Report
from sdrt_export.precision.typed_graph import write_typed
from sdrt_export.quantizing.int8_graph import int8_graph, opened, tensors_to_measure
from sdrt_export.quantizing.layer_errors import errors_of
from sdrt_export.quantizing.layers import layers_of
from sdrt_export.quantizing.ranges import Range, ranges_of
from sdrt_export.quantizing.recorded_calls import Call, spread

ENOUGH = 50.0  # dB of each output, against float32: no layer is kept for more
MIN_PSNR = 30.0  # dB, as for half precision
MAX_FLOAT = 0.25  # of the multiplications in all layers
MAX_GROUPS = 24
NUM_DIVIDED = 6  # groups whose layers are tried alone, too
NUM_JUDGED = 3  # of the recorded calls; the one in the middle also judges groups and layers

Group: TypeAlias = tuple[str, ...]  # layers


@dataclass(frozen=True)
class Int8Report:
    """The result for a denoiser. `stayed_float` are layers, by their nodes' outputs."""

    stayed_float: tuple[str, ...]
    num_layers: int  # that could compute in int8
    float_share: float  # of their multiplications
    psnr: float  # dB of the worst output, on the judged calls


def write_searched(
    network: Path, folder: Path, calls: Sequence[Call], report: Report
) -> Int8Report:
    """Writes `model.onnx` and its weights into `folder`: the network in the ONNX file `network`
    with as many layers in int8 as the error of its outputs allows.

    BuildError if it has no layer to quantize, or if int8 is not close enough.
    """
    ranges = _measured(network, calls, report)
    with scratch_in(folder) as scratch:
        found = _searched(_Trials(network, ranges, spread(calls, NUM_JUDGED), scratch), report)
    if found.psnr < MIN_PSNR:
        raise BuildError(
            f"in int8 the denoiser's outputs are {found.psnr:.1f} dB from float32, expected "
            f"{MIN_PSNR:.0f} dB or more, even with {len(found.stayed_float)} of "
            f"{found.num_layers} layers in float: give other prompts with --calibrate, or use "
            "openvino:bf16"
        )
    write_typed(int8_graph(network, ranges, found.stayed_float), network.parent, folder)
    return found


def _measured(network: Path, calls: Sequence[Call], report: Report) -> Mapping[str, Range]:
    graph = opened(network)
    names = tensors_to_measure(graph)
    if not names:
        raise BuildError(f"{network}: no layer to compute in int8: run it as it is")
    report(f"measuring the ranges of {len(names)} tensors on {len(calls)} calls")
    return ranges_of(graph.model, network.parent, names, [call.feeds for call in calls])


class _Trials:
    """Int8 graphs of a network that are written, run and judged. They share one file of weights,
    to which each weight is written when the first of them needs it."""

    def __init__(
        self, network: Path, ranges: Mapping[str, Range], calls: Sequence[Call], folder: Path
    ) -> None:
        layers = layers_of(opened(network))
        self.layers = {layer.name: layer.num_products(ranges) for layer in layers}
        self._network, self._ranges, self._calls = network, ranges, calls
        self._model, self._data = folder / MODEL_NAME, folder / DATA_NAME
        self._data.touch()
        self._written: dict[str, TensorProto] = {}

    def psnr(self, kept: Sequence[str]) -> float:
        """The worst output of the network with the layers `kept` in float, in dB."""
        with engine_from_onnx(self._write(kept), fused=True) as engine:
            return min(_psnr(call, engine.run(call.feeds)) for call in self._calls)

    def errors(self, groups: Sequence[Group]) -> dict[Group, float]:
        """The error that each group of layers causes alone, on the call in the middle."""
        call = self._calls[len(self._calls) // 2]
        found = errors_of(self._network, self._ranges, groups, call)
        return dict(zip(groups, found, strict=True))

    def share(self, layers: Sequence[str]) -> float:
        """The multiplications of `layers` relative to those of all."""
        return sum(self.layers[name] for name in layers) / sum(self.layers.values())

    def _write(self, kept: Sequence[str]) -> Path:
        typed = int8_graph(self._network, self._ranges, kept)
        with self._data.open("r+b") as data:
            data.seek(0, os.SEEK_END)
            for name in typed.weights.keys() - self._written.keys():
                array = typed.weights[name].values(self._network.parent)
                self._written[name] = initializer(name, array, data)
        del typed.model.graph.initializer[:]
        typed.model.graph.initializer.extend(self._written[name] for name in typed.weights)
        self._model.write_bytes(typed.model.SerializeToString())
        return self._model


def _psnr(call: Call, outputs: Mapping[str, Array]) -> float:
    return min(psnr_of(expected, outputs[name]) for name, expected in call.outputs.items())


def _searched(trials: _Trials, report: Report) -> Int8Report:
    kept: Group = ()
    psnr = trials.psnr(kept)
    if psnr < ENOUGH:
        report(f"{psnr:.0f} dB in int8: looking for layers to keep in float")
        kept = _fewest(trials, _affordable(trials, _ranked(trials, report)))
        psnr = trials.psnr(kept)
    return Int8Report(kept, len(trials.layers), trials.share(kept), psnr)


def _ranked(trials: _Trials, report: Report) -> list[Group]:
    """Groups and single layers, those first that cause most of the error for their work."""
    groups = _groups(list(trials.layers))
    report(f"trying {len(groups)} groups of layers")
    errors = trials.errors(groups)
    worst = sorted(groups, key=errors.__getitem__, reverse=True)[:NUM_DIVIDED]
    layers = [(layer,) for group in worst if len(group) > 1 for layer in group]
    report(f"trying {len(layers)} layers of the {len(worst)} worst groups")
    errors |= trials.errors(layers)
    tried = [*(group for group in groups if len(group) == 1 or group not in worst), *layers]
    return sorted(tried, key=lambda group: errors[group] / trials.share(group), reverse=True)


def _affordable(trials: _Trials, ranked: Sequence[Group]) -> list[Group]:
    """Those that fit into the share of all work, the first ones first."""
    left, found = MAX_FLOAT, []
    for group in ranked:
        if trials.share(group) <= left:
            left -= trials.share(group)
            found.append(group)
    return found


def _fewest(trials: _Trials, groups: Sequence[Group]) -> Group:
    """The layers of the first groups: of as few as are enough, or of all."""

    def layers(count: int) -> Group:
        return tuple(chain.from_iterable(groups[:count]))

    counts = range(1, len(groups))
    return layers(1 + bisect_left(counts, ENOUGH, key=lambda count: trials.psnr(layers(count))))


def _groups(layers: Sequence[str]) -> list[Group]:
    """Neighbours together, in groups of equal size."""
    size = -(-len(layers) // MAX_GROUPS)
    return [tuple(layers[start : start + size]) for start in range(0, len(layers), size)]
