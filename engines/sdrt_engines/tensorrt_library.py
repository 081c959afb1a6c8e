"""TensorRT and TensorRT-RTX: their import, their log and their errors.

The only file that imports them. Both have the same interface.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from sdrt_engines.errors import (
    EngineError,
    OutOfMemoryError,
    SdrtError,
    is_out_of_memory,
    raise_interrupt,
)
from sdrt_engines.importing import importing

_LESS = "take a smaller size or batch, or close other programs that use the GPU"
_OTHERWISE = "build its plans again with `sdrt build`, or report this"


def module_of(backend: str) -> str:
    """The module of a backend's library, which has the backend's name."""
    return backend.replace("-", "_")


def require_installed(backend: str) -> None:
    """EngineError with the pip command if the library is missing. Does not import it: slow."""
    module = module_of(backend)
    if find_spec(module) is None:
        raise EngineError(f"{module} is not installed: pip install 'sdrt[{backend}]'")


def import_tensorrt(backend: str) -> Any:
    """The module; EngineError with the pip command if it cannot be imported."""
    require_installed(backend)
    module = module_of(backend)
    with importing(module, f"pip install 'sdrt[{backend}]'"):
        return import_module(module)


class ErrorLog:
    """The errors that TensorRT logged for the last failure: it returns None or False, and only its
    log says why. The first errors name the cause, later ones the consequences.
    """

    def __init__(self) -> None:
        self.logger: Any = None  # as TensorRT takes it
        self._messages: list[str] = []

    def add(self, message: str) -> None:
        if len(self._messages) < 2:
            self._messages.append(" ".join(message.split())[:300])

    def clear(self) -> None:
        self._messages.clear()

    @property
    def text(self) -> str:
        return "; ".join(self._messages)


@cache
def tensorrt_log(backend: str) -> ErrorLog:
    """The log of this process: TensorRT keeps the first logger that it is given for ever."""
    trt, log = import_tensorrt(backend), ErrorLog()
    severe = (trt.ILogger.Severity.INTERNAL_ERROR, trt.ILogger.Severity.ERROR)

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in severe:
                log.add(message)

    log.logger = Logger()
    return log


def tensorrt_error(failure: str, reason: str) -> EngineError:
    """The error for `failure`, with what TensorRT says about it and a remedy that suits it."""
    reason = reason or "its log does not say why"
    if is_out_of_memory(RuntimeError(reason)):
        return OutOfMemoryError(f"{failure}: {reason}: {_LESS}")
    return EngineError(f"{failure}: {reason}: {_OTHERWISE}")


@contextmanager
def tensorrt_errors(failure: Callable[[], str]) -> Iterator[None]:
    """Translates exceptions of TensorRT's bindings in the block; `failure` begins the message."""
    try:
        yield
    except SdrtError:
        raise
    except MemoryError as error:
        raise OutOfMemoryError(f"{failure()}: out of memory: {_LESS}") from error
    except Exception as error:  # the bindings raise RuntimeError, TypeError, and what C++ throws
        raise_interrupt(error)
        raise tensorrt_error(failure(), " ".join(f"{error}".split())) from error
