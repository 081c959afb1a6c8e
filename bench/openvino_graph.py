"""The highest resolution of Stable Diffusion 1.5's UNet on OpenVINO: the graph as exported and as
sdrt changes it, all shapes open, and if `--ir` is given, OpenVINO GenAI's graph for its one shape.

The part up to the end of the first block, batch 2, latents of 64×64. In turn, in one process. Takes
two minutes and 1 GB of memory. Processor time of all threads, as that of a shared machine is
steadier than the time that passes.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import openvino
from openvino_unet import SHAPES, feeds
from recording import Measurement, alone_on_the_machine, record

from sdrt_engines.openvino_graph import keep_half_weights, prepare_graph
from sdrt_engines.packages import installed_versions

PRECISIONS = ("f32", "bf16")
END = "/model/down_blocks.0/downsamplers.0/conv/Conv/WithoutBiases"
END_OF_IR = "__module.down_blocks.0.downsamplers.0.conv/aten::_convolution/Convolution"


@dataclass(frozen=True)
class Contestant:
    name: str
    precision: str
    request: Any
    feeds: Mapping[str, np.ndarray]
    times: list[float] = field(default_factory=list)

    def run(self) -> None:
        start = time.process_time()
        self.request.infer(self.feeds, share_inputs=True)
        self.times.append(time.process_time() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("onnx", type=Path, help="the exported UNet")
    parser.add_argument("--ir", type=Path, help="the same UNet as exported by optimum-intel")
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with alone_on_the_machine():
        contestants = [
            each for precision in PRECISIONS for each in opened(options.onnx, options.ir, precision)
        ]
        for _ in range(options.rounds + 1):  # the first compiles
            for each in contestants:
                each.run()
    record("openvino_graph", [measurement(each, contestants) for each in contestants])


def opened(onnx: Path, ir: Path | None, precision: str) -> list[Contestant]:
    found = [
        contestant("as exported", onnx, precision, keep_half_weights),
        contestant("as sdrt changes it", onnx, precision, prepare_graph),
    ]
    if ir is not None:
        found.append(contestant("OpenVINO GenAI's", ir, precision, close_shapes, END_OF_IR))
    return found


def contestant(
    name: str, path: Path, precision: str, change: Callable[[Any], None], end: str = END
) -> Contestant:
    core = openvino.Core()
    whole = core.read_model(path)
    last = next(node for node in whole.get_ops() if node.get_friendly_name() == end)
    part = openvino.Model([last.output(0)], whole.get_parameters(), "part")
    change(part)
    options = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    request = core.compile_model(part, "CPU", options).create_infer_request()
    types = {each.get_any_name(): each.get_element_type().to_dtype() for each in part.inputs}
    values = {name: feeds()[name].astype(dtype) for name, dtype in types.items()}
    return Contestant(name, precision, request, values)


def close_shapes(model: Any) -> None:
    model.reshape({each: list(SHAPES[each.get_any_name()]) for each in model.inputs})


def measurement(found: Contestant, contestants: list[Contestant]) -> Measurement:
    reference = next(each for each in contestants if each.precision == found.precision)
    ratios = [own / other for own, other in zip(found.times, reference.times, strict=True)][1:]
    return Measurement(
        f"{found.name}, {found.precision}",
        "s of processor time",
        tuple(found.times[1:]),
        installed_versions("sdrt", "openvino"),
        {"of the graph as exported": round(float(np.median(ratios)), 3)},
    )


if __name__ == "__main__":
    main()
