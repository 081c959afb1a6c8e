"""One network built several times for different shapes: each run takes the plan that fits best."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from sdrt_engines.engine import Engine, Pinned
from sdrt_engines.shape_profiles import Profile, choose_profile
from sdrt_engines.tensor import Array, DeviceArray, Shape, Signature


@dataclass(frozen=True)
class Plan:
    """The shapes that a plan was built for, and a function that opens it."""

    profiles: Sequence[Profile]
    open: Callable[[], Engine]


@dataclass(frozen=True, eq=False)
class _PinnedWhereUsed:
    """A feed that is pinned on each plan when that plan first runs with it."""

    name: str
    array: Array
    on: dict[Engine, Pinned] = field(default_factory=dict)

    @property
    def shape(self) -> Shape:
        shape: Shape = self.array.shape
        return shape

    def at(self, engine: Engine) -> Pinned:
        if engine not in self.on:
            self.on[engine] = engine.pin(self.name, self.array)
        return self.on[engine]


class PlanSet(Engine):
    """Plans of one network as one engine; a plan opens with the first run that takes it.

    If several cover a run, the one tuned for the nearest shapes takes it; among equals the first.
    TensorError that lists all shapes if none does.
    """

    def __init__(self, signature: Signature, name: str, plans: Sequence[Plan]) -> None:
        super().__init__(signature, name)
        self._profiles = [profile for plan in plans for profile in plan.profiles]
        self._plans = [plan for plan in plans for _ in plan.profiles]  # one entry per profile
        self._open: dict[int, Engine] = {}  # by the plan's identity
        self._opening = threading.Lock()

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        engine = self._engine_for(values)
        return engine.run(_feeds_of(engine, values), outputs)

    def _run_on_device(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array | DeviceArray]:
        engine = self._engine_for(values)
        return engine.run_on_device(_feeds_of(engine, values), outputs)

    def _takes(self, array: DeviceArray) -> bool:
        return True  # the engine that runs decides

    def _engine_for(self, values: Mapping[str, Any]) -> Engine:
        shapes: dict[str, Shape] = {name: value.shape for name, value in values.items()}
        plan = self._plans[choose_profile(self.name, self._profiles, shapes)]
        with self._opening:
            if id(plan) not in self._open:
                self._open[id(plan)] = plan.open()
            return self._open[id(plan)]

    def _pin(self, name: str, array: Array) -> _PinnedWhereUsed:
        return _PinnedWhereUsed(name, super()._pin(name, array))

    def _release(self) -> None:
        with ExitStack() as steps:  # closes each, whatever another raises
            for engine in self._open.values():
                steps.callback(engine.close)


def _feeds_of(engine: Engine, values: Mapping[str, Any]) -> dict[str, Any]:
    """The feeds of one plan's engine: a pinned value is pinned there, too."""
    return {
        name: value.at(engine) if isinstance(value, _PinnedWhereUsed) else value
        for name, value in values.items()
    }
