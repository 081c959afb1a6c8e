"""Exports a full-size checkpoint as a single file, and as the folder that the file was made from.

Time and peak memory of each, one after the other, and whether the networks are the same. Needs what
`export_full_size.py` needs, and the disk and memory of the checkpoint twice. Linux only.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from export_full_size import WHOLE, run
from full_size_models import MODELS
from recording import Measurement, record

from sdrt.bundle.folder import Bundle
from sdrt_engines.packages import installed_versions
from sdrt_export.synthetic import make_checkpoint

TESTS = Path(__file__).resolve().parents[1] / "tests"
ENCODERS = {
    "Stable Diffusion 1.5": "SD1",
    "Stable Diffusion 2.1": "SD2",
    "SDXL": "XL",
    "SDXL's refiner": "REFINER",
}
WRITE = f"""
import sys
sys.path.insert(0, {str(TESTS)!r})
from pathlib import Path
from support import original_layout as layout
folder, path, encoders = sys.argv[1:]
models = layout.models_in(Path(folder))
layout.save(layout.original_checkpoint(models, getattr(layout, encoders)), Path(path))
print("null")
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", nargs="+", choices=MODELS, default=["Stable Diffusion 1.5"])
    options = parser.parse_args()
    for model in options.models:
        with tempfile.TemporaryDirectory() as work:
            measure(model, Path(work))


def measure(model: str, work: Path) -> None:
    folder = make_checkpoint(work / "checkpoint", MODELS[model])
    file = work / "model.safetensors"
    run(WRITE, folder, file, ENCODERS[model])
    figures, hashes = {}, []
    for name, source in {"folder": folder, "single file": file}.items():
        figures[name] = run(WHOLE, source, work / name, "fp16")
        hashes.append(hashes_in(work / name))
    record_both(model, figures, same=hashes[0] == hashes[1])


def hashes_in(bundle: Path) -> set[tuple[str, str | None]]:
    """The hashes of the networks' files, by path.

    Without the graphs of text encoders: they name the id of the end of a text, and the folder has
    the tokenizer of the demo model, while a single file is exported with CLIP's.
    """
    components = Bundle.open(bundle).manifest.components
    return {
        (file.path, file.sha256)
        for each in components
        for file in each.files
        if not (each.role == "text encoder" and file.path == each.model)
    }


def record_both(model: str, figures: dict[str, dict[str, Any]], *, same: bool) -> None:
    notes = {"model": model, "weights": "fp16", "networks": "the same" if same else "DIFFERENT"}
    versions = installed_versions("sdrt", "torch", "diffusers", "safetensors", "onnx")
    rows = []
    for name, each in figures.items():
        memory = max(each["gib"], each["child_gib"])
        rows += [
            Measurement(f"{name}, time", "s", (each["seconds"],), versions, notes),
            Measurement(f"{name}, peak memory", "GiB", (memory,), versions, notes),
        ]
    record("single_file", rows)


if __name__ == "__main__":
    main()
