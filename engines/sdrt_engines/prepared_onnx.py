"""Saves a network in ONNX Runtime's optimised form: the graph optimised for this processor, weights
in the layout of its kernels.

Such a file opens without that work and is mapped from disk, so several processes share its weights,
and overwriting it in place changes them. It is valid only for the onnxruntime and the processor
that it was written with: store `preparer` with it.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from sdrt_engines.errors import EngineError
from sdrt_engines.freed_memory import returning_memory
from sdrt_engines.onnxruntime_library import (
    LOG_NOTHING,
    fused_network,
    import_onnxruntime,
    onnxruntime_errors,
)
from sdrt_engines.processor import this_processor

_FUSIONS = "3"  # the version of what `fused_network` does
_DATA_NAME = "model.onnx_data"
_FULL = 1 << 16  # bytes; fewer are left after a write that failed for lack of room
_IN_GRAPH = 1024  # bytes; larger tensors go to the data file


def _free_bytes(folder: Path) -> int:
    return shutil.disk_usage(folder).free


def prepare_onnx(
    source: Path, model: Path, free_bytes: Callable[[Path], int] = _free_bytes
) -> None:
    """Writes the network in the ONNX file `source` to `model`, with its weights next to that.

    EngineError if the source is broken or memory is short; OSError if the disk is full, which
    onnxruntime does not name.
    """
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_NOTHING
    options.optimized_model_filepath = str(model)
    entries = {
        "session.optimized_model_external_initializers_file_name": _DATA_NAME,
        "session.optimized_model_external_initializers_min_size_in_bytes": str(_IN_GRAPH),
        "session.save_external_prepacked_constant_initializers": "1",
    }
    for key, value in entries.items():
        options.add_session_config_entry(key, value)
    try:
        with onnxruntime_errors(lambda: f"{source}: cannot be prepared"), returning_memory():
            network = fused_network(source, options)
            onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
    except EngineError as error:
        if free_bytes(model.parent) < _FULL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(model)) from error
        raise


def preparer() -> dict[str, str] | None:
    """The onnxruntime, the processor and the fusions that prepared files are valid for. None if the
    system does not report what its processor can do."""
    identity = this_processor().identity
    if identity is None:
        return None
    version = str(import_onnxruntime().__version__)
    return {"onnxruntime": version, "processor": identity, "fusions": _FUSIONS}
