"""Measures on real engines, one open at a time: each engine of a full-size model needs
gigabytes."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from statistics import median

from sdrt.ask import Ask
from sdrt.bundle.folder import Bundle
from sdrt.errors import NonFiniteError
from sdrt.targets.engines import Engines
from sdrt.targets.evaluation import checked_answer
from sdrt.targets.tuned import Shape
from sdrt.tuning.candidates import Candidate
from sdrt.tuning.rounds import Measures, Part
from sdrt.tuning.workload import Workload
from sdrt.verification.verdict import Verdict, verify_component
from sdrt_engines import EngineError, Resolution, Target

ENOUGH = 0.2  # seconds of runs after which a median is trusted
MAX_RUNS = 50


def measures_of(bundle: Bundle, workloads: Mapping[Shape, Workload]) -> Measures:
    """The measurements of a bundle's targets on this machine."""

    def seconds(candidate: Candidate, shape: Shape, part: Part) -> float:
        resolution = Resolution(candidate.target, num_threads=candidate.num_threads)
        asks = _asks(workloads[shape], part)
        with closing(Engines(bundle, resolution)) as engines:
            engines.memory.require(asks)
            return seconds_of(lambda: [checked_answer(ask, engines) for ask in asks])

    return Measures(seconds, lambda target: _psnr(bundle, target))


def seconds_of(run: Callable[[], object], clock: Callable[[], float] = time.perf_counter) -> float:
    """The seconds of a run after a warm-up: of one, or the median of several short ones."""
    run()
    seconds: list[float] = []
    while not seconds or (sum(seconds) < ENOUGH and len(seconds) < MAX_RUNS):
        start = clock()
        run()
        seconds.append(clock() - start)
    return median(seconds)


def _asks(workload: Workload, part: Part) -> Sequence[Ask]:
    asks: Mapping[Part, Sequence[Ask]] = {
        "text": workload.text,
        "step": (workload.step,),
        "decode": workload.decode,
    }
    return asks[part]


def _psnr(bundle: Bundle, target: Target) -> float | None:
    """The worst PSNR of `sdrt verify` over all networks; None: equal."""
    psnr = min(
        _psnr_of(verify_component(bundle, component.name, target))
        for component in bundle.manifest.components
    )
    return None if psnr == math.inf else psnr


def _psnr_of(verdict: Verdict) -> float:
    if verdict.error is not None:
        raise EngineError(verdict.error)
    if verdict.num_non_finite:
        raise NonFiniteError(
            f"{verdict.component}: {verdict.num_non_finite} output values are NaN or infinite"
        )
    return verdict.psnr
