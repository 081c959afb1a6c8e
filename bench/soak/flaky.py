"""Engines of a target that fails: right until a moment, then failing in one of several ways."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from threading import Lock
from typing import Any, TypeAlias

import numpy as np

from sdrt_engines import Array, Engine, EngineError, OutOfMemoryError

Outputs: TypeAlias = dict[str, Array]
Failure: TypeAlias = Callable[[Outputs, int], Outputs]  # takes the outputs and number of rows


class ClosingError(Exception):
    """An engine does not close, as after the loss of a GPU."""


class Mishap:
    """The failure of one target: within `longest` runs it happens to all of its networks."""

    def __init__(self, random: Random, longest: int = 60) -> None:
        self._runs_left = random.randrange(longest)
        self._failure = random.choice(_FAILURES)
        self._closes = random.random() < 0.5
        self._lock = Lock()

    def outputs(self, outputs: Outputs, num_rows: int) -> Outputs:
        """The outputs of a run, or the failure of the target."""
        with self._lock:
            self._runs_left -= 1
            has_failed = self._runs_left < 0
        return self._failure(outputs, num_rows) if has_failed else outputs

    def close(self) -> None:
        """Raises ClosingError if engines of this target do not close."""
        if not self._closes:
            raise ClosingError("the device is lost")


class FlakyEngine(Engine):
    """Computes with another engine, as if on a target that fails."""

    def __init__(self, engine: Engine, mishap: Mishap) -> None:
        super().__init__(engine.signature, engine.name)
        self._engine, self._mishap = engine, mishap

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> Outputs:
        num_rows = max(len(value) for value in values.values() if value.ndim)
        return self._mishap.outputs(self._engine.run(values, outputs), num_rows)

    def _release(self) -> None:
        self._engine.close()
        self._mishap.close()


def flaky(engines: Mapping[str, Engine], random: Random) -> dict[str, FlakyEngine]:
    """The engines, all on one target that will fail."""
    mishap = Mishap(random)
    return {name: FlakyEngine(engine, mishap) for name, engine in engines.items()}


def _raising(kind: type[Exception], most: int = 0) -> Failure:
    """An error in runs of more than `most` rows."""

    def failure(outputs: Outputs, num_rows: int) -> Outputs:
        if num_rows > most:
            raise kind("the device is lost")
        return outputs

    return failure


def _with_nan(outputs: Outputs, num_rows: int) -> Outputs:
    return {name: _last_is_nan(array) for name, array in outputs.items()}


def _last_is_nan(array: Array) -> Array:
    changed = np.array(array)
    changed.flat[-1] = np.nan
    return changed


_FAILURES = (
    *map(_raising, (EngineError, OutOfMemoryError, RuntimeError, KeyError, MemoryError)),
    _raising(OutOfMemoryError, most=1),  # no loss: batches run in parts
    _with_nan,
)
