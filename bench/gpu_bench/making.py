"""Creates the inputs of the other parts: weights, ONNX files, and outputs of the CPU."""

from __future__ import annotations

import time

from gpu_bench.context import Context
from gpu_bench.networks import (
    architecture,
    make_modules,
    save_modules,
    write_folder,
    write_references,
    write_small_files,
)
from gpu_bench.sessions import REFERENCE_LATENTS, latents_at


def weights(context: Context) -> None:
    """Generates the weights and saves them."""
    start = time.perf_counter()
    write_small_files(architecture(context.small), context.work)
    save_modules(make_modules(architecture(context.small), context.device), context.work)
    context.add("weights drawn", "s", [time.perf_counter() - start])


def export(context: Context) -> None:
    """Writes the ONNX files, and their outputs on the CPU. Needs no GPU."""
    start = time.perf_counter()

    def report(stage: str) -> None:
        print(f"  {time.perf_counter() - start:.1f} s: {stage}", flush=True)

    write_folder(architecture(context.small), context.work, context.networks, report)
    (context.work / "ready").touch()
    latents = latents_at(context, REFERENCE_LATENTS)
    write_references(context.work, context.networks, latents, report)
    context.add("export and references", "s", [time.perf_counter() - start])
