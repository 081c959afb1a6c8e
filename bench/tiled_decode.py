"""The VAE's decoder on a whole image and in tiles: time and peak memory at full size.

A process for each case decodes random latents once. Weights are random, the architecture is that of
Stable Diffusion 1.5 and SDXL. A case that would take more than the limit ends as "does not fit".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from build_full_size import synthetic_bundle
from recording import alone_on_the_machine, append_rows

from sdrt_engines.packages import installed_versions

GIB = 2**30
TOO_LARGE = 3  # exit code

# The watch ends the process before the system would end another one.
PROGRAM = """
import json, os, sys, threading, time
import numpy as np
import sdrt
from sdrt.ask import answered
from sdrt.denoising.tiling import Tiling
from sdrt.denoising.vae import Autoencoder
from sdrt.targets.evaluation import checked_answer
from sdrt_engines import resident_memory
from sdrt_engines.operating_system import peak_memory

def watch(most):
    while resident_memory() < most:
        time.sleep(0.02)
    os._exit(3)

bundle, target = sys.argv[1:3]
size, tile, most = map(int, sys.argv[3:6])
threading.Thread(target=watch, args=(most,), daemon=True).start()
with sdrt.Pipeline.open(bundle, target) as pipe:
    latents = pipe.bundle.family.latents
    tiling = Tiling.of(tile // latents.vae_scale_factor) if tile else None
    vae = Autoencoder("vae_encoder", "vae_decoder", latents, tiling)
    pipe.engines["vae_decoder"]
    opened = resident_memory()
    sample = np.random.default_rng(0).standard_normal(latents.shape_of((size, size)), np.float32)
    start = time.perf_counter()
    answered(vae.decode(sample), lambda ask: checked_answer(ask, pipe.engines))
    seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "peak": peak_memory(), "opened": opened}))
"""


@dataclass(frozen=True)
class Case:
    """A decoding. Sides are in pixels; tile 0 decodes the whole image."""

    target: str
    size: int
    tile: int

    def __str__(self) -> str:
        how = f"in tiles of {self.tile}×{self.tile}" if self.tile else "whole"
        return f"{self.target}, {self.size}×{self.size}, {how}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", type=Path, help="default: a temporary one")
    parser.add_argument("--targets", nargs="+", default=["cpu"])
    parser.add_argument("--sizes", nargs="+", type=int, default=[1024, 2048])
    parser.add_argument("--tile", type=int, default=512)
    parser.add_argument("--limit", type=float, default=18, help="GiB")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work, alone_on_the_machine():
        bundle = options.bundle or synthetic_bundle(Path(work))
        for case in cases(options.targets, options.sizes, options.tile):
            found = measured(bundle, case, options.limit)
            append_rows("tiled_decode", [row(case, found, options.limit)])
            sys.stdout.write(f"{case}: {found}\n")
            sys.stdout.flush()


def cases(targets: Sequence[str], sizes: Sequence[int], tile: int) -> Iterator[Case]:
    """One tile alone, then each size whole and in tiles."""
    for target in targets:
        yield Case(target, tile, 0)
        for size in sizes:
            yield Case(target, size, 0)
            yield Case(target, size, tile)


def measured(bundle: Path, case: Case, limit: float) -> dict[str, Any]:
    sides = map(str, (case.size, case.tile, int(limit * GIB)))
    command = [sys.executable, "-c", PROGRAM, str(bundle), case.target, *sides]
    done = subprocess.run(command, stdout=subprocess.PIPE)
    if done.returncode == TOO_LARGE:
        return {"does not fit": f"{limit:g} GiB"}
    done.check_returncode()
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def row(case: Case, found: dict[str, Any], limit: float) -> dict[str, Any]:
    """The row of a case; without figures if it does not fit."""
    in_gib = {name: round(found[name] / GIB, 4) for name in ("peak", "opened") if name in found}
    return {
        "bench": "tiled_decode",
        "name": str(case),
        "unit": "s",
        "median": found.get("seconds"),
        "num_runs": 1,
        "notes": {**vars(case), "limit, GiB": limit, **found, **in_gib},
        "versions": installed_versions("sdrt", "onnxruntime", "openvino"),
    }


if __name__ == "__main__":
    main()
