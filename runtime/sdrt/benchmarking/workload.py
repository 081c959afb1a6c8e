"""The measured workload: a request to a bundle on a target, run once or many times."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TypeAlias

from sdrt.errors import SdrtError
from sdrt.parameters import MAX_SEED, Speed
from sdrt.pipeline import Pipeline
from sdrt.request import Request
from sdrt.timings import Timings
from sdrt_engines import Target, backend_of

# The fields of a request that a workload sets.
SETTINGS = (
    *("prompt", "width", "height", "num_inference_steps", "guidance_scale", "scheduler", "seed"),
    "speed",
)

Report: TypeAlias = Callable[[str], None]  # takes a short description of the current work


def unreported(doing: str) -> None:
    """Reports nothing."""


@dataclass(frozen=True)
class Workload:
    """A bundle by its path or name, a target, and the request for one image.

    Every run has its own seeds, counting up from the request's.
    """

    bundle: str
    target: str
    request: Request
    num_threads: int | None = None
    warmup: int = 1  # uncounted runs before the measured ones

    def open(self) -> Pipeline:
        """A new pipeline, which encodes the prompt in each run."""
        speed = self.request.speed or "exact"
        return Pipeline.open(self.bundle, self.target, self.num_threads, text_cache=0, speed=speed)

    def on(self, target: Target) -> Workload:
        """The same workload on a named target, which "auto" does not replace."""
        num_threads = self.num_threads if backend_of(target).on_cpu else None
        return replace(self, target=str(target), num_threads=num_threads)

    def at(self, speed: Speed) -> Workload:
        """The same workload with what that speed means."""
        return replace(self, request=replace(self.request, speed=speed, forecast=None))

    def request_of(self, number: int, batch: int = 1) -> Request:
        """The request of a run: its seeds follow those of the previous run."""
        seed = ((self.request.seed or 0) + number * batch) % (MAX_SEED - batch)
        return replace(self.request, seed=seed, num_images_per_prompt=batch)


@dataclass(frozen=True)
class Run:
    """One served request: its stages, its steps and its target."""

    timings: Timings
    steps: tuple[float, ...]  # seconds from each step to the next
    target: str  # as in `Result.engine`


def timed(pipeline: Pipeline, request: Request) -> Run:
    """Serves the request and times it."""
    stream = pipeline.stream(request)
    ends = [time.perf_counter() for _ in stream]
    steps = tuple(after - before for before, after in pairwise(ends))
    return Run(stream.result.timings, steps, stream.result.engine)


def require_one_target(first: str, last: str) -> None:
    """Raises `SdrtError` if "auto" switched targets: a figure must not mix their samples."""
    if first != last:
        raise SdrtError(
            f"the target changed from {first} to {last} during the measurement: name the one to "
            "measure with --target"
        )


@dataclass
class Served:
    """Serves the numbered requests of a workload, all on one target."""

    pipeline: Pipeline
    workload: Workload
    batch: int = 1  # images per request
    num_runs: int = 0  # expected number, for reports
    report: Report = unreported
    runs: list[Run] = field(default_factory=list)

    def warm_up(self) -> None:
        """Runs that are not measured: engines are opened, and libraries choose algorithms."""
        for number in range(self.workload.warmup):
            self.report(f"warm-up {number + 1} of {self.workload.warmup}")
            timed(self.pipeline, self.workload.request_of(number, self.batch))

    def __call__(self, number: int) -> Run:
        self.report(f"run {number + 1} of {max(number + 1, self.num_runs)}")
        run = timed(self.pipeline, self.workload.request_of(number, self.batch))
        self.runs.append(run)
        require_one_target(self.target, run.target)
        return run

    @property
    def target(self) -> str:
        """The target that served them."""
        return self.runs[0].target
