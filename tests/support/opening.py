"""Opens the ONNX file of a test, whatever library runs it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from sdrt_engines import Engine, signature_from_onnx
from sdrt_engines.onnxruntime_cuda import BoundEngine

Opener: TypeAlias = Callable[..., Engine]


def open_bound(path: Path, *, name: str | None = None, num_threads: int | None = None) -> Engine:
    """Opens an engine like `cuda_engine_from_onnx`, with the CPU as its device."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = num_threads or 0
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return BoundEngine(signature_from_onnx(path), name or str(path), session, "cpu")
