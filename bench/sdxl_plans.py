"""Builds TensorRT-RTX plans of Stable Diffusion XL's networks at full size, without a GPU.

As `build_full_size.py`, for one image of 1024x1024. A network's rows are written as soon as its
plan is built. Weights are random. Takes a quarter of an hour, 20 GiB of memory for the UNet, and 30
GB of disk; a bundle given with --bundle is kept with its plans.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from build_full_size import build, measurements_of
from recording import record

from sdrt.bundle.folder import Bundle


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="default: a temporary one")
    parser.add_argument("--components", nargs="+", default=(), help="default: all")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bundle = options.bundle or synthetic_bundle(Path(work))
        networks = [component.name for component in Bundle.open(bundle).manifest.components]
        for name in options.components or networks:
            record("sdxl_plans", measurements_of(name, build(bundle, name)))


def synthetic_bundle(work: Path) -> Path:
    from sdrt_export.architectures import SDXL
    from sdrt_export.exporting import export_checkpoint
    from sdrt_export.synthetic import make_checkpoint

    return export_checkpoint(make_checkpoint(work / "checkpoint", SDXL), work / "bundle")


if __name__ == "__main__":
    main()
