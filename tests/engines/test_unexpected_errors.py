"""Exceptions that nobody expects of a backend's library, and those that are not its own."""

from __future__ import annotations

import signal
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeAlias

import numpy as np
import pytest

from sdrt_engines import (
    Array,
    Engine,
    EngineError,
    FunctionEngine,
    OutOfMemoryError,
    Signature,
    Source,
    Target,
    TensorError,
    open_source,
)
from sdrt_engines import target as target_module
from support.backends import opening
from support.onnx_writer import spec

Doing: TypeAlias = Callable[[], object]
SIGNATURE = Signature((spec("x", "float32", 1),), (spec("y", "float32", 1),))
X = np.zeros(1, np.float32)
CALLS: dict[str, Callable[[Engine], object]] = {
    "run": lambda engine: engine.run({"x": X}),
    "run_on_device": lambda engine: engine.run_on_device({"x": X}),
    "pin": lambda engine: engine.pin("x", X),
    "close": lambda engine: engine.close(),
}


class Library(Engine):
    library = "TensorRT"

    def __init__(self, do: Doing) -> None:
        super().__init__(SIGNATURE, "unet")
        self._do = do

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        self._do()
        return {"y": values["x"]}

    def _pin(self, name: str, array: Array) -> Any:
        self._do()

    def _release(self) -> None:
        self._do()


def raising(error: BaseException) -> Doing:
    def fail() -> None:
        raise error

    return fail


class PanicException(BaseException):
    """As libraries in Rust raise it."""


@pytest.mark.parametrize(
    "error",
    [
        AttributeError("'NoneType' object has no attribute 'set_input_shape'"),
        RuntimeError("no\ncontext"),
        TypeError("factory function returned nullptr"),
        MemoryError(),
        PanicException("index out of bounds"),
    ],
    ids=lambda error: type(error).__name__,
)
@pytest.mark.parametrize("call", CALLS)
def test_what_a_library_raises_is_one_line(call: str, error: BaseException) -> None:
    with pytest.raises(EngineError) as caught:
        CALLS[call](Library(raising(error)))
    described = f"{type(error).__name__}: {error}".removesuffix(": ").replace("\n", " ")
    assert str(caught.value) == (
        f"unet: TensorRT failed unexpectedly ({described}): use another target, or report this"
    )
    assert caught.value.__cause__ is error
    assert isinstance(caught.value, OutOfMemoryError) == isinstance(error, MemoryError)


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), SystemExit(3), GeneratorExit(), TensorError("x is too small")]
)
@pytest.mark.parametrize("call", CALLS)
def test_what_is_no_failure_of_a_library_passes_unchanged(call: str, error: BaseException) -> None:
    with pytest.raises(type(error)) as caught:
        CALLS[call](Library(raising(error)))
    assert caught.value is error


def test_an_earlier_interrupt_is_another_matter() -> None:
    """As when a program generates a last image after Ctrl-C."""
    with pytest.raises(EngineError, match="RuntimeError: no context"):
        try:
            raise KeyboardInterrupt
        except KeyboardInterrupt:
            CALLS["run"](Library(raising(RuntimeError("no context"))))


class Handler:
    """Raises an error of its own, as time limits do."""

    def __call__(self, number: int, frame: FrameType | None) -> None:
        raise TimeoutError("the caller's time limit")

    def method(self, number: int, frame: FrameType | None) -> None:
        self(number, frame)


@pytest.mark.parametrize("handler", [Handler(), Handler().method], ids=["object", "method"])
@pytest.mark.parametrize("call", CALLS)
def test_what_a_signal_handler_raises_passes_unchanged(call: str, handler: Any) -> None:
    previous = signal.signal(signal.SIGTERM, handler)
    try:
        with pytest.raises(TimeoutError, match="the caller's time limit"):
            CALLS[call](Library(lambda: signal.raise_signal(signal.SIGTERM)))
    finally:
        signal.signal(signal.SIGTERM, previous)


def test_what_a_function_raises_passes_unchanged() -> None:
    def fail(feeds: dict[str, Array]) -> dict[str, Array]:
        raise KeyError("y")

    engine = FunctionEngine(SIGNATURE, fail)
    with pytest.raises(KeyError):
        engine.run({"x": X})


def test_what_a_library_raises_while_it_opens(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> Engine:
        raise AttributeError("'NoneType' object has no attribute 'x'")

    monkeypatch.setitem(target_module._BY_NAME, "cuda", replace(opening("cuda"), open=fail))
    with pytest.raises(EngineError) as caught:
        open_source(Source("unet", SIGNATURE, Path(), "fp32"), Target("cuda"))
    assert str(caught.value) == (
        "unet: target cuda does not open (AttributeError: 'NoneType' object has no attribute 'x'): "
        "name another target, or report this"
    )
