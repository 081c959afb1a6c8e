"""The layers of a denoiser that stay float, found by the error of its outputs.

All layers compute in int8 if that is close enough to float32 on the recorded calls. If not, groups
of neighbouring layers are left out, one at a time; those whose absence helps most stay float, until
the outputs are close enough or half of the groups are float.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sdrt.arrays import psnr_of
from sdrt.files.drafts import scratch_in
from sdrt_engines import Array, engine_from_onnx
from sdrt_export.errors import BuildError
from sdrt_export.options import Report
from sdrt_export.quantizing.int8_graph import int8_graph, opened, tensors_to_measure, write_int8
from sdrt_export.quantizing.layers import layers_of
from sdrt_export.quantizing.ranges import Range, ranges_of
from sdrt_export.quantizing.recorded_calls import Call, spread

ENOUGH = 40.0  # dB of each output, against float32: no layer is kept for more
MIN_PSNR = 30.0  # dB, as for half precision
MAX_GROUPS = 24
NUM_JUDGED = 6  # of the recorded calls: each is run for each group


@dataclass(frozen=True)
class Int8Report:
    """What became of a denoiser. `stayed_float` are layers, by their nodes' outputs."""

    stayed_float: tuple[str, ...]
    num_layers: int  # that could compute in int8
    psnr: float  # dB of the worst output, on the judged calls


def write_searched(
    network: Path, folder: Path, calls: Sequence[Call], report: Report
) -> Int8Report:
    """Writes `model.onnx` and its weights into `folder`: the network in the ONNX file `network`
    with as many layers in int8 as the error of its outputs allows.

    BuildError if it has no layer to quantize, or if int8 is not close enough.
    """
    search = _Search(network, folder, calls, report)
    kept: tuple[str, ...] = ()
    psnr = search.psnr(kept)
    for group in search.most_sensitive() if psnr < ENOUGH else ():
        kept += group
        psnr = search.psnr(kept)
        if psnr >= ENOUGH:
            break
    if psnr < MIN_PSNR:
        raise BuildError(
            f"in int8 the denoiser's outputs are {psnr:.1f} dB from float32, expected "
            f"{MIN_PSNR:.0f} dB or more, even with {len(kept)} of {len(search.layers)} layers in "
            "float: give more prompts with --calibrate, or use openvino:bf16"
        )
    search.write(kept, folder)
    return Int8Report(kept, len(search.layers), psnr)


class _Search:
    def __init__(self, network: Path, folder: Path, calls: Sequence[Call], report: Report) -> None:
        self.network, self.folder, self.report = network, folder, report
        self.judged = spread(calls, NUM_JUDGED)
        graph = opened(network)
        self.layers = [layer.name for layer in layers_of(graph)]
        if not self.layers:
            raise BuildError(f"{network}: no layer to compute in int8: run it as it is")
        report(f"measuring the ranges of {len(self.layers)} layers on {len(calls)} calls")
        self.ranges: Mapping[str, Range] = ranges_of(
            graph.model, network.parent, tensors_to_measure(graph), [call.feeds for call in calls]
        )

    def most_sensitive(self) -> list[tuple[str, ...]]:
        """Half of the groups, the one whose absence helps most first."""
        groups = _groups(self.layers)
        self.report(f"finding the layers that stay float, among {len(groups)} groups")
        best = sorted(groups, key=self.psnr, reverse=True)
        return best[: len(groups) // 2]

    def psnr(self, kept: Sequence[str]) -> float:
        """The worst output of the network with the layers `kept` in float, in dB."""
        with scratch_in(self.folder) as scratch:
            model = self.write(kept, scratch)
            with engine_from_onnx(model, fused=True) as engine:
                return min(_psnr(call, engine.run(call.feeds)) for call in self.judged)

    def write(self, kept: Sequence[str], folder: Path) -> Path:
        return write_int8(int8_graph(self.network, self.ranges, kept), self.network, folder)


def _psnr(call: Call, outputs: Mapping[str, Array]) -> float:
    return min(psnr_of(expected, outputs[name]) for name, expected in call.outputs.items())


def _groups(layers: Sequence[str]) -> list[tuple[str, ...]]:
    """Neighbours together, in groups of equal size."""
    size = -(-len(layers) // MAX_GROUPS)
    return [tuple(layers[start : start + size]) for start in range(0, len(layers), size)]
