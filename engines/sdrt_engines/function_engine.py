"""An engine that calls a Python function."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np

from sdrt_engines.engine import Engine
from sdrt_engines.errors import TensorError
from sdrt_engines.runs import Runs
from sdrt_engines.tensor import Array, Signature

T = TypeVar("T")


class FunctionEngine(Engine):
    """An engine made of a Python function: for tests, and for networks that are not ONNX files.

    `function` receives all feeds as a dict of arrays and returns all outputs as a dict; both are
    checked against the signature. Its exceptions pass through unchanged.
    """

    def __init__(
        self,
        signature: Signature,
        function: Callable[[dict[str, Array]], Mapping[str, Array]],
        *,
        name: str = "function",
    ) -> None:
        super().__init__(signature, name)
        self._function = function

    def _translated(self, call: Callable[..., T], *arguments: Any) -> T:
        return call(*arguments)

    def _begin_in_child(self) -> None:
        """A function can be called there, too."""
        self._runs = Runs(closed=self.closed)

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        results = self._function(values)
        if results.keys() != self._outputs.keys():
            raise TensorError(
                f"{self.name}: the function returned {sorted(results)}, expected "
                f"{sorted(self._outputs)}: return each output of the signature"
            )
        for name, spec in self._outputs.items():
            if reason := spec.mismatch(results[name], sizes):
                raise self._misfit("output", spec, results[name], reason)
        # copied: a function may return its input or an array that it keeps
        return {name: np.array(results[name]) for name in outputs}
