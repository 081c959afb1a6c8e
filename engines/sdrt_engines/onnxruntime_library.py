"""ONNX Runtime, for the backends that run on it. The only file that imports it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

from sdrt_engines.errors import (
    EngineError,
    OutOfMemoryError,
    SdrtError,
    is_out_of_memory,
)
from sdrt_engines.fused_attention import fused_file
from sdrt_engines.importing import importing
from sdrt_engines.interruptible import cancelled_by, interruptible
from sdrt_engines.onnx_signature import onnx_message
from sdrt_engines.onnx_upsampling import with_convolutions_first

T = TypeVar("T")

LOG_NOTHING = 4  # fatal: errors are raised, and the log would repeat them

_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"  # of a network in memory
_TELEMETRY_OFF = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """The module; EngineError with the install command if it cannot be imported."""
    with importing("onnxruntime", "pip install onnxruntime"), _first_import():
        import onnxruntime
        from onnxruntime import InferenceSession  # noqa: F401
    return onnxruntime


def loaded(path: Path, load: Callable[[], T]) -> T:
    """The result of `load`, which makes a session of the ONNX file at `path`.

    It can be interrupted but not cancelled: the session is then dropped when it has been made.
    """

    def translated() -> T:
        with onnxruntime_errors(lambda: f"{path}: does not load"):
            return load()

    return interruptible(translated, waits=False)


def fused_network(path: Path, options: Any) -> Path | bytes:
    """The network in the ONNX file at `path` for a session with these options: its attention fused,
    its convolutions before upsampling."""
    fused = fused_file(path)
    with onnx_message(path) as model:
        fused = with_convolutions_first(memoryview(fused) if fused else model) or fused
    if fused is None:
        return path
    options.add_session_config_entry(_WEIGHTS_FOLDER, str(path.parent))
    return fused


@contextmanager
def terminable(run_options: Any) -> Iterator[None]:
    """Lets a run with these options in the block be cancelled, between two of its nodes."""
    run_options.terminate = False  # as an earlier run may have left it
    with cancelled_by(lambda: setattr(run_options, "terminate", True)):
        yield


@contextmanager
def _first_import() -> Iterator[None]:
    """Imports onnxruntime without telemetry, and without output, unless it is imported already."""
    if "onnxruntime" in sys.modules:
        yield
    else:
        with _without_telemetry(), _silent_stderr():
            yield


@contextmanager
def _without_telemetry() -> Iterator[None]:
    """Since 1.29 onnxruntime uploads events on a thread of its own, which begins with the import.

    Forked processes, which do not have this thread, wait for it when they end, for ever. On macOS
    it sometimes aborts a process that ends. Whoever sets the variable decides.
    """
    if _TELEMETRY_OFF in os.environ:
        yield
        return
    os.environ[_TELEMETRY_OFF] = "1"
    try:
        yield
    finally:
        os.environ.pop(_TELEMETRY_OFF, None)


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """No output on stderr in the block.

    On machines with an unusual graphics card (WSL, Raspberry Pi) the import warns that GPU
    discovery failed, before a log level can be set:
    https://github.com/microsoft/onnxruntime/issues/27092
    """
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
