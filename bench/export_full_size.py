"""Exports Stable Diffusion 1.5's architecture and a ControlNet at full size, with random weights.

One process per part, then all parts with `sdrt export`. Takes minutes and 12 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from recording import Measurement, record

from sdrt_engines.packages import installed_versions

MAX_GIB = 12

# Times do not count the imports; memory does.
FIGURES = """
print(json.dumps({
    "seconds": time.perf_counter() - start,
    "gib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
    "megabytes": sum({file.path: file.size for c in components for file in c.files}.values()) / 1e6,
    "psnr": min(component.parity.psnr for component in components),
}))
"""

PART = f"""
import json, resource, sys, time
from pathlib import Path
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.component import export_part
from sdrt_export.networks.loading import parts_from_checkpoint
name, checkpoint, bundle, weights = sys.argv[1:]
start = time.perf_counter()
parts = {{part.name: part for part in parts_from_checkpoint(checkpoint_from_source(checkpoint))}}
components = export_part(parts[name], Path(bundle), weights, lambda stage: None)
{FIGURES}"""

WHOLE = f"""
import json, resource, sys, time
from sdrt.bundle.folder import Bundle
from sdrt_export.exporting import export_checkpoint
checkpoint, bundle, weights = sys.argv[1:]
start = time.perf_counter()
components = Bundle.open(export_checkpoint(checkpoint, bundle, weights=weights)).manifest.components
{FIGURES}"""

PARTS = ("text_encoder", "unet", "vae_decoder", "vae_encoder", "controlnet_edges")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", choices=["fp32", "fp16"], default="fp32")
    parser.add_argument("--checkpoint", type=Path, help="default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        checkpoint = options.checkpoint or synthetic_checkpoint(Path(work))
        measurements = []
        for name in PARTS:
            with tempfile.TemporaryDirectory(dir=work) as bundle:
                figures = run(PART, name, checkpoint, bundle, options.weights)
            measurements += measurements_of(name, figures, options.weights)
        figures = run(WHOLE, checkpoint, Path(work, "bundle"), options.weights)
        measurements += measurements_of("whole export", figures, options.weights)
    record("export_full_size", measurements)


def synthetic_checkpoint(work: Path) -> Path:
    from sdrt_export.synthetic import make_checkpoint, make_controlnet

    checkpoint = make_checkpoint(work / "checkpoint")
    make_controlnet(checkpoint / "controlnet_edges")
    return checkpoint


def run(program: str, *arguments: object) -> dict[str, float]:
    """The figures that the program prints, run in a new process."""
    command = [sys.executable, "-c", program, *map(str, arguments)]
    result = subprocess.run(command, stdout=subprocess.PIPE, check=True)
    figures: dict[str, float] = json.loads(result.stdout)
    return figures


def measurements_of(name: str, figures: dict[str, float], weights: str) -> list[Measurement]:
    """Time and peak memory, with the results in the notes."""
    notes = {
        "weights": weights,
        "MB written": round(figures["megabytes"]),
        "PSNR": f"{figures['psnr']:.0f} dB",
    }
    versions = installed_versions(
        "sdrt", "torch", "diffusers", "transformers", "onnx", "onnxruntime"
    )
    target = {"target": f"at most {MAX_GIB} GiB"}
    return [
        Measurement(f"{name}, time", "s", (figures["seconds"],), versions, notes),
        Measurement(f"{name}, peak memory", "GiB", (figures["gib"],), versions, notes | target),
    ]


if __name__ == "__main__":
    main()
