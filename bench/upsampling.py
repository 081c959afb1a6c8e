"""A network whose upsampling follows its convolutions against the same network as exported.

Both run in turn in one process, and each round gives a ratio. Peak memory is that of a process that
opens one of them and runs it once. The results may differ in rounding only: the largest difference
is a note, relative to the largest value.

    python bench/upsampling.py BUNDLE
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from recording import Measurement, alone_on_the_machine, record
from timed_runs import seconds

from sdrt.bundle.folder import Bundle
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import Array, Engine, Target, backend_of, onnxruntime_library, openvino_graph
from sdrt_engines.backend import Source
from sdrt_engines.operating_system import peak_memory
from sdrt_engines.packages import installed_versions

MIB = 2**20
ORDERS = ("as exported", "convolutions first")


@dataclass(frozen=True)
class Case:
    bundle: Path
    component: str
    target: str
    size: int  # of the image, in pixels

    def __str__(self) -> str:
        return f"{self.component}, {self.target}, {self.size}×{self.size}"

    def feeds(self) -> dict[str, Array]:
        bundle = Bundle.open(self.bundle)
        latents = self.size // bundle.family.latents.vae_scale_factor
        return seeded_inputs(bundle, self.component, latents=latents)

    def open(self, order: str) -> Engine:
        bundle, target = Bundle.open(self.bundle), Target.parse(self.target)
        component = bundle.component(self.component)
        source = Source(component.name, component.signature, bundle.root / component.model, "fp32")
        with in_order(order):
            return backend_of(target).open(source, target, None)


@contextmanager
def in_order(order: str) -> Iterator[None]:
    """Opens networks in the block with or without the graph pass."""
    passes = onnxruntime_library.with_convolutions_first, openvino_graph.convolve_first
    if order == "as exported":
        onnxruntime_library.with_convolutions_first = lambda model: None
        openvino_graph.convolve_first = lambda model: None
    try:
        yield
    finally:
        onnxruntime_library.with_convolutions_first, openvino_graph.convolve_first = passes


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--components", nargs="+", default=["vae_decoder", "unet"])
    parser.add_argument("--targets", nargs="+", default=["cpu", "openvino", "openvino:bf16"])
    parser.add_argument("--size", type=int, default=512)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak-of", choices=ORDERS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    cases = [
        Case(options.bundle, component, target, options.size)
        for component in options.components
        for target in options.targets
    ]
    if options.peak_of:
        (case,) = cases
        case.open(options.peak_of).run(case.feeds())
        print(json.dumps(peak_memory()))
        return
    with alone_on_the_machine():
        for case in cases:
            record("upsampling", [compared(case, options.rounds)])


def compared(case: Case, rounds: int) -> Measurement:
    feeds = case.feeds()
    before, after = (case.open(order) for order in ORDERS)
    with before, after:
        expected, got = (next(iter(each.run(feeds).values())) for each in (before, after))
        pairs = [(seconds(before, feeds), seconds(after, feeds)) for _ in range(rounds)]
    notes = {
        "target": case.target,
        "size": case.size,
        "as exported": round(statistics.median(pair[0] for pair in pairs), 3),
        "ratio": round(statistics.median(new / old for old, new in pairs), 3),
        "difference": float(f"{np.abs(got - expected).max() / np.abs(expected).max():.2g}"),
        **{f"peak, MiB, {order}": peak_of(case, order) // MIB for order in ORDERS},
    }
    versions = installed_versions("sdrt", "onnxruntime", "openvino", "numpy")
    return Measurement(str(case), "s", tuple(new for _, new in pairs), versions, notes)


def peak_of(case: Case, order: str) -> int:
    command = [sys.executable, __file__, str(case.bundle), "--components", case.component]
    command += ["--targets", case.target, "--size", str(case.size), "--peak-of", order]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return int(json.loads(done.stdout))


if __name__ == "__main__":
    main()
