"""Weights stored in float32 or float16, with computation in float32: the time on the CPU to open
Stable Diffusion 1.5's full-size UNet, of its first step, and of further ones.

One process each, in turns. Takes minutes, 8 GB of memory and 6 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from openvino_unet import on_cpu, torch_unet
from recording import Measurement, record

from sdrt_engines.packages import installed_versions

STEPS = 2  # after the first, in each process


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--write", nargs=2, metavar=("WEIGHTS", "FOLDER"), help="export, then exit")
    parser.add_argument("--run", type=Path, metavar="ONNX", help="print a file's figures as JSON")
    options = parser.parse_args()
    if options.write:
        write_unet(*options.write)
    elif options.run:
        print(json.dumps(on_cpu(options.run, STEPS)))
    else:
        measure(options.rounds)


def measure(rounds: int) -> None:
    with tempfile.TemporaryDirectory() as work:
        paths = {weights: Path(work, weights, "model.onnx") for weights in ("fp32", "fp16")}
        for weights, path in paths.items():
            path.parent.mkdir()
            in_a_process("--write", weights, path.parent)
        figures = {weights: [] for weights in paths}
        for _ in range(rounds):
            for weights, path in paths.items():
                printed = in_a_process("--run", path)
                figures[weights].append(json.loads(printed.splitlines()[-1]))
        sizes = {
            weights: sum(file.stat().st_size for file in path.parent.iterdir())
            for weights, path in paths.items()
        }
    rows = []
    for weights, found in figures.items():
        notes = {"MB on the disk": round(sizes[weights] / 1e6)}
        first = tuple(each["first"][0] for each in found)
        steps = tuple(median(each["steps"]) for each in found)
        for name, values in (("to open, with the first step", first), ("a step", steps)):
            packages = installed_versions("sdrt", "onnxruntime")
            rows.append(Measurement(f"{weights}, {name}", "s", values, packages, notes))
    record("weight_storage", rows)


def in_a_process(*arguments: object) -> str:
    command = [sys.executable, __file__, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def write_unet(weights: str, folder: str) -> None:
    from sdrt_export.networks.unet import UNet
    from sdrt_export.tracing.half_weights import Rounded
    from sdrt_export.tracing.onnx_from_network import write_onnx

    unet = UNet(torch_unet())
    write_onnx(unet, Path(folder), weights, Rounded(unet.name, unet.model.state_dict()))


if __name__ == "__main__":
    main()
