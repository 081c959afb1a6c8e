"""The peak memory of opening a UNet on the target `cpu`, and of preparing it, as a multiple of its
weights in float32.

A process for each: weights stored as float32 and as float16, as exported and prepared, and the
preparation of both variants of the UNet. What the process held before, its libraries included, does
not count. The UNet is Stable Diffusion 1.5's with fewer channels and random weights, unless bundles
are given. Takes minutes, and 2 GB of memory and disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from recording import Measurement, record

import sdrt
from sdrt_engines.onnx_weights import share_in_convolutions
from sdrt_engines.packages import installed_versions
from sdrt_export.options import WeightType

NETWORK = "unet"
STORAGES: tuple[WeightType, ...] = ("fp32", "fp16")
RUN = {
    "as exported": "open_reference(bundle, 'unet')",
    "preparing": """builder_of(Target("cpu")).build(
        bundle, Target("cpu"), BuildOptions(components=("unet", "unet_controlled")), print
    )""",
    "prepared": "open_engine(bundle, 'unet', 'cpu')",
}

PROGRAM = """
import json, sys, threading, time
from sdrt.bundle.folder import Bundle
from sdrt.targets.engines import open_engine, open_reference
from sdrt_engines import Target, resident_memory
from sdrt_engines.onnxruntime_library import import_onnxruntime
from sdrt_engines.operating_system import peak_memory
from sdrt_export.building.builder import BuildOptions
from sdrt_export.building.builders import builder_of
sys.stdout = sys.stderr
import_onnxruntime()
bundle = Bundle.open(sys.argv[1])
before = resident_memory()
start = time.perf_counter()
opened = {run}
seconds = time.perf_counter() - start
found = {{"peak": peak_memory() - before, "seconds": seconds, "after": resident_memory() - before}}
print(json.dumps(found), file=sys.__stdout__)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundles", type=Path, nargs="+", help="default: temporary ones")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        for path in options.bundles or small_bundles(Path(work)):
            bundle = sdrt.Bundle.open(path)
            record("loading_memory", [measured(bundle, how) for how in RUN])


def small_bundles(work: Path) -> list[Path]:
    from sdrt_export.exporting import export_checkpoint
    from sdrt_export.synthetic import SD15, make_checkpoint, make_controlnet

    channels = {"block_out_channels": (96, 192, 384, 384)}
    architecture = replace(SD15, unet=SD15.unet | channels)
    checkpoint = make_checkpoint(work / "checkpoint", architecture)
    make_controlnet(checkpoint / "controlnet_edges", architecture)
    return [export_checkpoint(checkpoint, work / each, weights=each) for each in STORAGES]


def measured(bundle: sdrt.Bundle, how: str) -> Measurement:
    command = [sys.executable, "-c", PROGRAM.format(run=RUN[how]), str(bundle.root)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE)
    found = json.loads(done.stdout)
    component = bundle.component(NETWORK)
    stored = sum(file.size for file in component.files)
    weights = stored * (2 if component.precision == "float16" else 1)
    return Measurement(
        f"{component.precision}, {how}",
        "of the weights in float32",
        (found["peak"] / weights,),
        installed_versions("sdrt", "onnxruntime"),
        {
            "weights, MB": round(weights / 1e6),
            "in convolutions": share_in_convolutions(bundle.root / component.model),
            "after": found["after"] / weights,
            "seconds": found["seconds"],
            "disk, MB": disk_of_graphs(bundle),
        },
    )


def disk_of_graphs(bundle: sdrt.Bundle) -> int:
    """MB of the prepared graphs; a file with two names counts once."""
    files = {
        path.stat().st_ino: path.stat().st_size for path in bundle.root.glob("engines/cpu/*/*")
    }
    return round(sum(files.values()) / 1e6)


if __name__ == "__main__":
    main()
