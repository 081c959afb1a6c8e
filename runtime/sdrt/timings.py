"""Where the seconds of a request go."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields


@dataclass(frozen=True)
class Timings:
    """Wall seconds of one request: loading engines, in each engine, and in none (``host``).

    What the caller does between two steps of a stream, previews included, is not counted. On a GPU
    nothing waits for ControlNets but the UNet, whose seconds then hold theirs.
    """

    loading: float
    vae_encoder: float
    text_encoder: float
    controlnet: float
    unet: float
    vae_decoder: float
    host: float
    total: float


class Clock:
    """Adds up the seconds spent in each component, and with the caller between two steps."""

    def __init__(self) -> None:
        self._start = time.perf_counter()
        parts = (field.name for field in fields(Timings) if field.name not in ("host", "total"))
        self._spent = dict.fromkeys((*parts, "caller"), 0.0)

    @contextmanager
    def __call__(self, name: str) -> Iterator[None]:
        start = time.perf_counter()
        try:
            yield
        finally:
            self._spent[name] += time.perf_counter() - start

    def timings(self) -> Timings:
        spent = dict(self._spent)
        total = time.perf_counter() - self._start - spent.pop("caller")
        return Timings(**spent, host=total - sum(spent.values()), total=total)
