"""Each network of a bundle on a target, compared with the CPU in float32 on seeded inputs."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from sdrt.arrays import psnr_of
from sdrt.ask import Ask, Link
from sdrt.bundle.folder import Bundle
from sdrt.errors import SdrtError
from sdrt.targets.engine_memory import EngineMemory
from sdrt.targets.engines import open_reference
from sdrt.targets.runnable import runnable
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import Array, Engine, Target

# PSNR in dB that each output must reach, by the target's precision. In float32 only the order of
# sums differs; half precisions keep 11 (float16) or 8 bits (bfloat16) of each number, and int8 has
# 256 numbers for a whole tensor.
MIN_PSNR = {"fp32": 90.0, "fp16": 30.0, "bf16": 30.0, "int8": 30.0}

_REFERENCE = Target("cpu")


@dataclass(frozen=True)
class Verdict:
    """One network on a target: the worst of its outputs, or its error."""

    component: str
    precision: str  # of the target
    min_psnr: float  # dB
    max_abs: float = math.nan
    psnr: float = -math.inf  # dB; relative to the range of the CPU's outputs
    num_non_finite: int = 0
    error: str | None = None

    @property
    def passed(self) -> bool:
        return self.error is None and not self.num_non_finite and self.psnr >= self.min_psnr


def verify_component(
    bundle: Bundle, name: str, target: Target, *, num_threads: int | None = None
) -> Verdict:
    """Compares the network `name` on `target` with the CPU. Errors go into the verdict.
    `num_threads` applies to both if they run on the CPU.
    """
    network = runnable(bundle.root, bundle.component(name), target)
    precision = network.precision
    min_psnr = MIN_PSNR[precision]
    try:
        feeds = seeded_inputs(bundle, name)
        _require_memory(bundle, name, target, feeds)
        expected = _outputs(open_reference(bundle, name, num_threads=num_threads), feeds)
        got = _outputs(network.open(num_threads), feeds)
    except SdrtError as error:
        return Verdict(name, precision, min_psnr, error=str(error))
    num_non_finite = sum(int(np.count_nonzero(~np.isfinite(array))) for array in got.values())
    if num_non_finite:
        return Verdict(name, precision, min_psnr, num_non_finite=num_non_finite)
    return Verdict(
        name,
        precision,
        min_psnr,
        max_abs=max(float(abs(got[key] - expected[key]).max()) for key in expected),
        psnr=min(psnr_of(expected[key], got[key]) for key in expected),
    )


def _require_memory(bundle: Bundle, name: str, target: Target, feeds: Mapping[str, Array]) -> None:
    """OutOfMemoryError if the network does not fit on the target, or on the CPU."""
    rows = len(next(iter(feeds.values())))
    ask = Ask((Link(name, tuple(range(rows)), feeds),), ())
    for each in (target, _REFERENCE):
        EngineMemory(bundle, each).require([ask])


def _outputs(opened: Engine, feeds: dict[str, Array]) -> dict[str, Any]:
    """The outputs as float64, so that differences are exact. Closes the engine: two may not fit."""
    with opened as engine:
        return {key: array.astype(np.float64) for key, array in engine.run(feeds).items()}
