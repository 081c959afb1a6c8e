"""Exports full-size checkpoints with random weights: the time and peak memory of each part.

One process per part, then all parts with `sdrt export`. Stable Diffusion 1.5 takes minutes and 12
GB of disk; SDXL takes half an hour, 16 GiB of memory and 25 GB of disk. Linux only.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from full_size_models import MODELS, make_model
from recording import Measurement, record

from sdrt_engines.packages import installed_versions

# Times do not count the imports; memory does. Linux resets a process's peak when it reads a 5.
STAGES = """
import json, resource, sys, time
from pathlib import Path
start, stages, current = time.perf_counter(), {}, []
def peak():
    status = Path("/proc/self/status").read_text().split("VmHWM:")[1]
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.split()[0]) / 2**20
def stage(line):
    name, before = line.partition(": ")[2], peak()
    if current:
        stages[current[-1]] = max(before, stages.get(current[-1], 0))
    current.append(name)
"""
FIGURES = """
seconds = time.perf_counter() - start
gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
stage("")
print(json.dumps({
    "seconds": seconds,
    "gib": max([gib, *stages.values()]),
    "child_gib": resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20,
    "stages": stages,
    "megabytes": sum({file.path: file.size for c in components for file in c.files}.values()) / 1e6,
    "psnr": min(component.parity.psnr for component in components),
}))
"""

PART = f"""{STAGES}
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.component import export_part
from sdrt_export.networks.loading import parts_from_checkpoint
name, checkpoint, bundle, weights = sys.argv[1:]
start = time.perf_counter()
parts = {{part.name: part for part in parts_from_checkpoint(checkpoint_from_source(checkpoint))}}
components = export_part(parts[name], Path(bundle), weights, stage)
{FIGURES}"""

WHOLE = f"""{STAGES}
from sdrt.bundle.folder import Bundle
from sdrt_export.exporting import export_checkpoint
checkpoint, bundle, weights = sys.argv[1:]
start = time.perf_counter()
components = Bundle.open(export_checkpoint(checkpoint, bundle, weights=weights)).manifest.components
{FIGURES}"""

NAMES = """
import json, sys
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.networks.loading import parts_from_checkpoint
parts = parts_from_checkpoint(checkpoint_from_source(sys.argv[1]))
print(json.dumps([part.name for part in parts]))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--weights", choices=["fp32", "fp16"], default="fp16")
    options = parser.parse_args()
    for model in options.models:
        with tempfile.TemporaryDirectory() as work:
            checkpoint = make_model(model, Path(work, "checkpoint"))
            for name in run(NAMES, checkpoint):
                with tempfile.TemporaryDirectory(dir=work) as bundle:
                    figures = run(PART, name, checkpoint, bundle, options.weights)
                record_part(model, name, figures, options.weights)
            figures = run(WHOLE, checkpoint, Path(work, "bundle"), options.weights)
            record_part(model, "whole export", figures, options.weights)


def run(program: str, *arguments: object) -> Any:
    """The figures or names that the program prints, run in a new process."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    return json.loads(result.stdout)


def record_part(model: str, name: str, figures: dict[str, Any], weights: str) -> None:
    """Records time and peak memory, with the results in the notes.

    Memory is that of the whole export, of torch in its own process if it has one (0 if not), and of
    each stage in the main process.
    """
    notes = {
        "model": model,
        "weights": weights,
        "MB written": round(figures["megabytes"]),
        "PSNR": f"{figures['psnr']:.0f} dB",
    }
    versions = installed_versions(
        "sdrt", "torch", "diffusers", "transformers", "onnx", "onnxruntime"
    )
    memory = {
        "peak memory": figures["gib"],
        "torch's own process, peak memory": figures["child_gib"],
        **{f"{stage}, peak memory": gib for stage, gib in figures["stages"].items()},
    }
    time = Measurement(f"{name}, time", "s", (figures["seconds"],), versions, notes)
    peaks = [
        Measurement(f"{name}, {what}", "GiB", (gib,), versions, notes)
        for what, gib in memory.items()
    ]
    record("export_full_size", [time, *peaks])


if __name__ == "__main__":
    main()
