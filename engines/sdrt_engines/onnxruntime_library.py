"""ONNX Runtime, for the backends that run on it. The only file that imports it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sdrt_engines.errors import (
    EngineError,
    OutOfMemoryError,
    SdrtError,
    is_out_of_memory,
    raise_interrupt,
)

_NO_MEMORY = "there is not enough memory: close other programs"

LOG_NOTHING = 4  # fatal: errors are raised, and the log would repeat them


def import_onnxruntime() -> Any:
    """The module; EngineError with the install command if it cannot be imported."""
    try:
        with _silent_stderr():
            import onnxruntime
    except (ImportError, OSError) as error:  # OSError: a library that it needs is missing
        raise_interrupt(error)
        remedy = _NO_MEMORY if is_out_of_memory(error) else "pip install onnxruntime"
        raise EngineError(f"onnxruntime cannot be imported ({error}): {remedy}") from error
    return onnxruntime


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """No output on stderr while onnxruntime is imported for the first time.

    On machines with an unusual graphics card (WSL, Raspberry Pi) it warns that GPU discovery
    failed, before any log level can be set: https://github.com/microsoft/onnxruntime/issues/27092
    """
    if "onnxruntime" in sys.modules:
        yield
        return
    try:
        stderr = os.dup(2)
    except OSError:  # there is no stderr
        yield
        return
    try:
        with Path(os.devnull).open("wb") as nothing:
            os.dup2(nothing.fileno(), 2)
        yield
    finally:
        os.dup2(stderr, 2)
        os.close(stderr)


@contextmanager
def onnxruntime_errors(
    failure: Callable[[], str],
    *,
    raises: type[SdrtError] = EngineError,
    way_out: str | None = None,
) -> Iterator[None]:
    """Translates exceptions of onnxruntime in the block.

    `failure` begins the message and is called only if needed; `way_out` ends it, by default with a
    remedy that suits the error.
    """
    try:
        yield
    except SdrtError:
        raise
    except Exception as error:  # the exceptions of onnxruntime have no common class
        remedy = way_out or _way_out(error)
        if raises is EngineError and is_out_of_memory(error):
            raises = OutOfMemoryError
        raise raises(f"{failure()}: {_reason(error)}: {remedy}") from error


def _reason(error: Exception) -> str:
    """onnxruntime's message on one line, without its `[ONNXRuntimeError] : 1 : FAIL : `."""
    return " ".join(str(error).split(" : ", 3)[-1].split())


def _way_out(error: Exception) -> str:
    """A remedy for an error of onnxruntime."""
    if "escapes model directory" in str(error):  # 1.24, of links such as the Hub's cache has
        return "it does not follow the link to the weights: update it, or copy the folder (cp -rL)"
    if re.search("external|cannot get file size", str(error), re.IGNORECASE):
        return "the weights next to it are missing or truncated: copy the whole folder again"
    if is_out_of_memory(error):
        return "there is not enough memory: take a smaller size or batch, or close other programs"
    return "export it again, or update onnxruntime"
