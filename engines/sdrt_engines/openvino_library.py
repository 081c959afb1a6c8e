"""OpenVINO itself, and the translation of its errors. The only file that imports it."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

import numpy as np

from sdrt_engines.errors import EngineError, OutOfMemoryError, SdrtError, is_out_of_memory
from sdrt_engines.importing import importing

INSTALL = "pip install 'sdrt[openvino]'"

_TELEMETRY = "openvino_telemetry"
_MAKING_TABLES = Lock()


def openvino() -> Any:
    with importing("openvino", INSTALL), _without_telemetry():
        import openvino
        from openvino import Core  # noqa: F401
    return openvino


def make_type_tables() -> None:
    """Makes OpenVINO's tables of numpy's types, one thread at a time: before anything uses them.

    It makes them at their first use, and two threads whose first uses meet wait for each other for
    ever, one with Python's lock and one with the table's (openvino 2026.4).
    """
    with _MAKING_TABLES:
        openvino().Type(np.float32)
        openvino().Type.f32.to_dtype()


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Imports openvino in the block without its telemetry, as where that is not installed.

    It forks a process that sends a report, and waits for it: 0.1 s, and a warning of Python's if
    another library has threads.
    """
    if _TELEMETRY in sys.modules:
        yield
        return
    sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # so that its import fails
    try:
        yield
    finally:
        del sys.modules[_TELEMETRY]


@cache
def core() -> Any:
    """OpenVINO's `Core`: one per process, as it holds the devices."""
    return openvino().Core()


@contextmanager
def openvino_errors(failure: Callable[[], str]) -> Iterator[None]:
    """Translates exceptions of OpenVINO in the block; `failure` begins the message."""
    try:
        yield
    except SdrtError:
        raise
    except Exception as error:  # RuntimeError, for nearly everything
        kind = OutOfMemoryError if is_out_of_memory(error) else EngineError
        raise kind(f"{failure()}: {reason_of(error)}: {_way_out(error)}") from error


def reason_of(error: Exception) -> str:
    """OpenVINO's message on one line, without locations in its source code."""
    text = re.sub(
        r"(?m)^(Caught exception: )?Exception from .*$|Check '.*?' failed at \S+:\d+:",
        "",
        str(error),
    )
    return " ".join(text.split())


def _way_out(error: Exception) -> str:
    if "outside the base directory" in str(error):
        return "openvino does not follow the link to the weights: copy the folder (cp -rL)"
    if "externally stored" in str(error):
        return "the weights next to it are missing or truncated: copy the whole folder again"
    if is_out_of_memory(error):
        return "there is not enough memory: take a smaller size or batch, or close other programs"
    return "use target 'cpu', export it again, or update openvino"
