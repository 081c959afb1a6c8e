"""Builds TensorRT-RTX plans of Stable Diffusion 1.5 and a ControlNet at full size, without a GPU.

For Ampere, Ada and Blackwell at once, 512x512, one image. Weights are random. Takes minutes and
16 GB of disk; a bundle given with --bundle is kept with its plans.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from recording import Measurement, record

from sdrt.bundle.folder import Bundle
from sdrt_engines.packages import installed_versions

TARGET = "tensorrt-rtx:sm86,sm89,sm120"

# One process per network, to measure its memory. The build itself runs in a child.
PROGRAM = """
import json, resource, sys, time
from sdrt.bundle.folder import Bundle
from sdrt.targets.plan_record import read_record
from sdrt_engines import Target
from sdrt_export.building.builder import BuildOptions
from sdrt_export.building.builders import builder_of
path, name, target = sys.argv[1], sys.argv[3], Target.parse(sys.argv[2])
start = time.perf_counter()
options = BuildOptions(components=(name,))
(plan,) = builder_of(target).build(Bundle.open(path), target, options, lambda line: None)
record = read_record(plan.with_suffix(".json"))
print(json.dumps({
    "whole": time.perf_counter() - start,
    "build": record.build["seconds"],
    "build_gib": record.build["peak_memory"] / 2**30,
    "precision_gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    "megabytes": record.plan.size / 1e6,
    "psnr": record.psnr,
    "precision": record.ingredients.precision,
    "reason": record.reason,
    "promoted": len(record.ingredients.promoted),
    "profiles": len(record.ingredients.profiles),
}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bundle = options.bundle or synthetic_bundle(Path(work))
        for component in Bundle.open(bundle).manifest.components:
            record(
                "build_full_size", measurements_of(component.name, build(bundle, component.name))
            )


def build(bundle: Path, name: str) -> dict[str, Any]:
    """The figures of one network's build."""
    command = [sys.executable, "-c", PROGRAM, str(bundle), TARGET, name]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures: dict[str, Any] = json.loads(result.stdout)
    return figures


def synthetic_bundle(work: Path) -> Path:
    from sdrt_export.exporting import export_checkpoint
    from sdrt_export.synthetic import make_checkpoint, make_controlnet

    checkpoint = make_checkpoint(work / "checkpoint")
    make_controlnet(checkpoint / "controlnet_edges")
    return export_checkpoint(checkpoint, work / "bundle")


def measurements_of(name: str, figures: dict[str, Any]) -> list[Measurement]:
    """Time, memory and size of one network's plan."""
    versions = installed_versions("sdrt", "tensorrt-rtx", "polygraphy", "onnx", "onnxruntime")
    notes = {"target": TARGET} | {
        key: figures[key] for key in ("precision", "reason", "psnr", "promoted", "profiles")
    }
    return [
        Measurement(f"{name}, {what}", unit, (figures[key],), versions, notes)
        for what, unit, key in (
            ("precision and build", "s", "whole"),
            ("build", "s", "build"),
            ("build, peak memory", "GiB", "build_gib"),
            ("precision, peak memory", "GiB", "precision_gib"),
            ("plan", "MB", "megabytes"),
        )
    ]


if __name__ == "__main__":
    main()
