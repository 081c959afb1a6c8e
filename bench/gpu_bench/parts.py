"""The parts by name, in their order."""

from __future__ import annotations

from collections.abc import Callable

from gpu_bench.agreement import agreement
from gpu_bench.context import Context
from gpu_bench.correctness import alternating, correctness
from gpu_bench.images import images
from gpu_bench.making import export, weights
from gpu_bench.profiling import profile
from gpu_bench.rtx import tensorrt_rtx
from gpu_bench.steps import peers, rows, variants

PARTS: dict[str, Callable[[Context], None]] = {
    "weights": weights,
    "export": export,
    "peers": peers,
    "correctness": correctness,
    "agreement": agreement,
    "images": images,
    "alternating": alternating,
    "variants": variants,
    "rows": rows,
    "profile": profile,
    "tensorrt-rtx": tensorrt_rtx,
}
