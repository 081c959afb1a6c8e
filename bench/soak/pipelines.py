"""The pipelines of a soak, by target: one of each is current, and others replace it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from importlib.util import find_spec
from random import Random
from threading import Lock
from typing import TypeAlias

from sdrt import Bundle, EngineError, Pipeline
from sdrt.targets.engines import open_engine
from sdrt_engines import Backend, Resolution, Target, backend_of
from soak.flaky import ClosingError, flaky

Opener: TypeAlias = Callable[[Random], Pipeline]

NUM_THREADS = 1  # of an engine: many requests run at once
TARGETS = ("cpu", "openvino", "failing")


def installed_targets() -> tuple[str, ...]:
    return tuple(name for name in TARGETS if name != "openvino" or find_spec(name))


def twin_of(target: str) -> str:
    """The target whose images are those of `target`: the failing one computes like the cpu."""
    return "cpu" if target == "failing" else target


def opened(bundle: Bundle, target: str, random: Random) -> Pipeline:
    """A new pipeline."""
    if target == "failing":
        return _failing(bundle, random)
    return Pipeline.open(bundle.root, target, NUM_THREADS)


def _failing(bundle: Bundle, random: Random) -> Pipeline:
    """A pipeline like that of "auto", whose first target fails while it runs, whose second fails
    when it opens, and whose last is the cpu."""
    engines = {
        component.name: open_engine(bundle, component.name, "cpu", num_threads=NUM_THREADS)
        for component in bundle.manifest.components
    }
    others = [_opening("tensorrt-rtx"), replace(_opening("cpu"), num_threads=NUM_THREADS)]
    resolution = Resolution(Target("tensorrt"), others=others)
    return Pipeline(bundle, resolution, flaky(engines, random))


def _opening(name: str) -> Backend:
    """The backend, which `auto` takes even where it does not open."""
    return replace(backend_of(Target(name)), refusal=lambda target: None)


def close_pipeline(pipe: Pipeline) -> None:
    """Closes it; raises nothing for engines that were made not to close."""
    try:
        pipe.close()
    except EngineError as error:
        if not isinstance(error.__cause__, ClosingError):
            raise


@dataclass
class Served:
    """A pipeline in use; `closing` is set before it is closed."""

    pipe: Pipeline
    closing: bool = False

    def close(self) -> None:
        self.closing = True
        close_pipeline(self.pipe)


class Pipelines:
    """The current pipeline of each target, which any thread may replace."""

    def __init__(self, openers: Mapping[str, Opener], random: Random) -> None:
        self._open = openers
        self._lock = Lock()
        self._current = {name: Served(open_(random)) for name, open_ in openers.items()}

    def __getitem__(self, target: str) -> Served:
        return self._current[target]

    def reopen(self, target: str, random: Random) -> None:
        """Another pipeline takes over; the one before is closed while others still use it."""
        new = Served(self._open[target](random))
        with self._lock:
            before, self._current[target] = self._current[target], new
        before.close()

    def close(self) -> None:
        for served in self._current.values():
            served.close()
