"""The forecast of memory compared with the peaks of real requests: Stable Diffusion 1.5, full size.

A process for each target, size and batch: one image or more from one step, within a limit. Those
that do not fit are refused before a network runs. Weights are random. Takes an hour; as much memory
as the limit must be free.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from build_full_size import synthetic_bundle
from recording import append_rows

from sdrt.targets.reservations import VARIABLE
from sdrt_engines.packages import installed_versions

GIB = 2**30
SIZES, BATCHES = (512, 768, 1024), (1, 2, 4)

# The watch ends the process before the system would end another one.
PROGRAM = """
import json, os, sys, threading, time
import sdrt
from sdrt_engines import resident_memory
from sdrt_engines.operating_system import peak_memory

def watch(most):
    while resident_memory() < most:
        time.sleep(0.02)
    os._exit(3)

bundle, target, most = sys.argv[1], sys.argv[2], int(sys.argv[3])
size, batch, steps = map(int, sys.argv[4:7])
threading.Thread(target=watch, args=(most,), daemon=True).start()
pipe = sdrt.Pipeline.open(bundle, target)
request = sdrt.Request(
    "a photo", width=size, height=size, num_images_per_prompt=batch,
    num_inference_steps=steps, seed=1,
)
forecast = pipe.forecast(request)
found = {"forecast": forecast.peak, "rows": forecast.rows, "num_rows": forecast.num_rows}
try:
    pipe(request)
except sdrt.OutOfMemoryError as error:
    print(json.dumps(found | {"refused": str(error)}))
else:
    print(json.dumps(found | {"peak": peak_memory()}))
"""


@dataclass(frozen=True)
class Case:
    """A request on a target."""

    target: str
    size: int
    batch: int

    def __str__(self) -> str:
        images = "image" if self.batch == 1 else "images"
        return f"{self.target}, {self.size}×{self.size}, {self.batch} {images}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="default: a temporary one")
    parser.add_argument("--targets", nargs="+", default=["cpu", "openvino"])
    parser.add_argument("--sizes", nargs="+", type=int, default=SIZES)
    parser.add_argument("--batches", nargs="+", type=int, default=BATCHES)
    parser.add_argument("--steps", type=int, default=2, help="runs after the first may need more")
    parser.add_argument("--limit", type=int, default=20, help="GiB")
    parser.add_argument("--note", default="as exported", help="what the bundle holds")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bundle = options.bundle or synthetic_bundle(Path(work))
        for each in product(options.targets, options.sizes, options.batches):
            case = Case(*each)
            found = measured(bundle, case, options.limit, options.steps)
            settings = {"bundle": options.note, "limit, GiB": options.limit, "steps": options.steps}
            append_rows("memory", [row(case, found, settings)])
            sys.stdout.write(f"{case}: {found}\n")
            sys.stdout.flush()


def measured(bundle: Path, case: Case, limit: int, steps: int) -> dict[str, Any]:
    most = str((limit + 1) * GIB)
    command = [sys.executable, "-c", PROGRAM, str(bundle), case.target, most]
    environment = os.environ | {VARIABLE: f"{limit}GiB"}
    done = subprocess.run(
        [*command, str(case.size), str(case.batch), str(steps)],
        env=environment,
        stdout=subprocess.PIPE,
    )
    if done.returncode:
        return {"failed": f"exit code {done.returncode}"}
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(case: Case, found: dict[str, Any], settings: dict[str, Any]) -> dict[str, Any]:
    """The row of a case: its peak, or none if it was refused."""
    in_gib = {name: found[name] / GIB for name in ("forecast", "peak") if name in found}
    return {
        "bench": "memory",
        "name": str(case),
        "unit": "GiB",
        "median": in_gib.pop("peak", None),
        "notes": {**settings, **vars(case), **found, **in_gib},
        "versions": installed_versions("sdrt", "onnxruntime", "openvino"),
    }


if __name__ == "__main__":
    main()
