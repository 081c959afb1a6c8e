"""Measures candidates in rounds and summarises them. Independent of clocks and engines."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Literal, TypeAlias

from sdrt.errors import SdrtError
from sdrt.targets.tuned import Ends, Shape, StepTime, Trial, TunedTarget, best_of
from sdrt.tuning.candidates import Candidate, computes_as_the_reference
from sdrt_engines import Target

Part: TypeAlias = Literal["text", "step", "decode"]

_FAILURES = (SdrtError, MemoryError)


@dataclass(frozen=True)
class Measures:
    """The measuring functions. Both raise SdrtError for a target that fails or returns NaN."""

    seconds: Callable[[Candidate, Shape, Part], float]
    psnr: Callable[[Target], float | None]  # dB against the CPU in float32; None: equal


@dataclass(frozen=True)
class Plan:
    """The plan: every target's candidates, at every shape, in a number of rounds."""

    candidates: Mapping[Target, tuple[Candidate, ...]]
    shapes: tuple[Shape, ...]
    runs: int = 3

    @property
    def num_measurements(self) -> int:
        """The number if nothing fails."""
        num_candidates = sum(map(len, self.candidates.values()))
        num_compared = sum(not computes_as_the_reference(target) for target in self.candidates)
        per_shape = self.runs * num_candidates + 2 * len(self.candidates)
        return per_shape * len(self.shapes) + num_compared


def measured(plan: Plan, measures: Measures) -> tuple[TunedTarget, ...]:
    """Every target of the plan, with its measurements or its error.

    The denoiser takes nearly all of the time, so only it is measured in rounds, in which all
    candidates take turns: a temporary slowdown of the machine affects all of them. The rest is
    measured once, with the number of threads that is best for the denoiser.
    """
    trials = _trials(plan, measures)
    return tuple(
        _tuned(target, tuple(trials[each] for each in candidates), plan.shapes, measures)
        for target, candidates in plan.candidates.items()
    )


@dataclass
class _Runs:
    """The runs of a candidate's denoiser so far."""

    seconds: dict[Shape, list[float]] = field(default_factory=dict)
    error: str | None = None

    def trial(self, num_threads: int | None) -> Trial:
        if self.error is not None:
            return Trial(num_threads, error=self.error)
        return Trial(num_threads, tuple(map(_step_time, self.seconds.values())))


def _trials(plan: Plan, measures: Measures) -> dict[Candidate, Trial]:
    candidates = [each for group in plan.candidates.values() for each in group]
    found = {candidate: _Runs({shape: [] for shape in plan.shapes}) for candidate in candidates}
    for _ in range(plan.runs):
        for candidate, runs in found.items():
            if runs.error is None:
                _measure_step(candidate, runs, measures)
    return {candidate: runs.trial(candidate.num_threads) for candidate, runs in found.items()}


def _measure_step(candidate: Candidate, runs: _Runs, measures: Measures) -> None:
    """Runs once at each shape. A candidate that fails is left out of further rounds."""
    try:
        for shape, seconds in runs.seconds.items():
            seconds.append(measures.seconds(candidate, shape, "step"))
    except _FAILURES as error:
        runs.error = _reason(error)


def _tuned(
    target: Target, trials: tuple[Trial, ...], shapes: Sequence[Shape], measures: Measures
) -> TunedTarget:
    best = best_of(trials)
    if best is None:
        return TunedTarget(str(target), trials, error=trials[0].error)
    candidate = Candidate(target, best.num_threads)
    try:
        ends = tuple(_ends(candidate, shape, measures) for shape in shapes)
        psnr = None if computes_as_the_reference(target) else measures.psnr(target)
    except _FAILURES as error:
        return TunedTarget(str(target), trials, error=_reason(error))
    return TunedTarget(str(target), trials, ends, psnr)


def _ends(candidate: Candidate, shape: Shape, measures: Measures) -> Ends:
    return Ends(
        text=measures.seconds(candidate, shape, "text"),
        decode=measures.seconds(candidate, shape, "decode"),
    )


def _step_time(seconds: Sequence[float]) -> StepTime:
    return StepTime(median(seconds), (max(seconds) - min(seconds)) / 2)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split()) or "there is not enough memory"
