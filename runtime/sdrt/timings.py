"""The seconds of a request, by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

LOADING = "loading"  # the stage of opening engines


@dataclass(frozen=True)
class Timings:
    """Wall-clock seconds of one request, without the time that the caller spends between two
    steps of a stream.

    Fields:
        seconds: the time of each stage that the request has: `loading` (opening engines),
            `text_encoder` (unless the pipeline has kept all prompts), `vae_encoder`, `controlnet`,
            `denoiser`, `vae_decoder`. On a GPU only the denoiser waits for ControlNets, so its
            seconds include theirs.
        host: the time outside the stages
        total: the sum of all of these
    """

    seconds: Mapping[str, float]
    host: float
    total: float


class Clock:
    """Adds up the seconds of each stage, and those of the caller between two steps."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        self._caller = 0.0
        self._seconds: dict[str, float] = {}

    def start(self) -> None:
        """Starts counting."""
        self._start = time.perf_counter()

    @contextmanager
    def __call__(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self.add({stage: time.perf_counter() - start})

    def add(self, seconds: Mapping[str, float]) -> None:
        """Adds seconds that were spent in stages."""
        for stage, spent in seconds.items():
            self._seconds[stage] = self._seconds.get(stage, 0.0) + spent

    @contextmanager
    def of_the_caller(self) -> Iterator[None]:
        """Excludes the seconds inside from the request's."""
        start = time.perf_counter()
        try:
            yield
        finally:
            self._caller += time.perf_counter() - start

    @property
    def seconds(self) -> Mapping[str, float]:
        """The seconds of each stage so far."""
        return self._seconds

    def timings(self) -> Timings:
        total = time.perf_counter() - self._start - self._caller
        return Timings(dict(self._seconds), total - sum(self._seconds.values()), total)
