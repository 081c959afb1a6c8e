"""TensorRT-RTX on this card, which its list of architectures may lack (Hopper's)."""

from __future__ import annotations

import subprocess
import sys
import time

from gpu_bench.context import Context

NETWORK = "text_encoder"  # the smallest
OPEN_AND_RUN = """
import sys
import sdrt
from sdrt.targets.engines import open_engine
from sdrt.verification.seeded_inputs import seeded_inputs
bundle = sdrt.Bundle.open(sys.argv[1])
engine = open_engine(bundle, sys.argv[2], "tensorrt-rtx")
engine.run(seeded_inputs(bundle, sys.argv[2]))
"""


def tensorrt_rtx(context: Context) -> None:
    """A plan for this card, and one for Ampere (sm80) that is run here; one row per answer."""
    for target in ("tensorrt-rtx", "tensorrt-rtx:sm80"):
        build = ["-m", "sdrt", "build", context.work, "--component", NETWORK, "--target", target]
        _ask(context, f"{target}, build", build)
    _ask(context, "tensorrt-rtx, open and run", ["-c", OPEN_AND_RUN, context.work, NETWORK])


def _ask(context: Context, title: str, arguments: list[object]) -> None:
    start = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *map(str, arguments)], capture_output=True, text=True, check=False
    )
    lines = (done.stderr or done.stdout).strip().splitlines()
    answer = "done" if done.returncode == 0 else lines[-1][:300] if lines else "no message"
    context.add(title, "s", [time.perf_counter() - start], answer=answer)
