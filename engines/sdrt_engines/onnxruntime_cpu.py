"""The `cpu` backend: ONNX Runtime.

Tried and rejected, as neither pays off on a CPU (onnxruntime 1.31): I/O binding and OrtValues for
pinned feeds (79 and 115 µs per call, plain `run` 41 µs: it wraps an array without copying it), and
turning prepacking off (loads instantly, but every matrix product is then three times slower).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from sdrt_engines.backend import INT8, Backend, MemoryUse, Settings, Source
from sdrt_engines.engine import Engine
from sdrt_engines.errors import EngineError
from sdrt_engines.freed_memory import return_freed_memory, returning_memory
from sdrt_engines.onnx_signature import signature_from_onnx
from sdrt_engines.onnxruntime_library import (
    LOG_NOTHING,
    fused_network,
    import_onnxruntime,
    loaded,
    onnxruntime_errors,
    terminable,
)
from sdrt_engines.tensor import Array, Signature, feeds_text
from sdrt_engines.threads import require_num_threads

# Where products of uint8 and int8 could overflow, without VNNI, int8 becomes uint8 first.
_EXACT_INT8 = "session.x64quantprecision"


def engine_from_onnx(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    num_threads: int | None = None,
    fused: bool = False,
    prepared: bool = False,
) -> Engine:
    """The network in the ONNX file at `path`, on the CPU, with weights from the files next to it.

    `name` begins error messages; the path by default. `num_threads` None leaves the choice to
    onnxruntime: one thread per physical core that this process may use. `fused` computes attention
    in blocks, with less memory and other rounding. `prepared` means that `prepare_onnx` wrote the
    file on this machine, so nothing is left to optimise. EngineError if
    the file is missing, broken, or uses operators that onnxruntime does not support.
    """
    require_num_threads(num_threads)
    path = Path(path)
    signature = signature_from_onnx(path)
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    levels = onnxruntime.GraphOptimizationLevel
    options.graph_optimization_level = levels.ORT_DISABLE_ALL if prepared else levels.ORT_ENABLE_ALL
    options.intra_op_num_threads = num_threads or 0
    options.log_severity_level = LOG_NOTHING
    # ONNX Runtime would plan the second run of a shape as one block of memory, and keep that as
    # well as the memory of the first run.
    options.enable_mem_pattern = False
    options.add_session_config_entry(_EXACT_INT8, "1")

    network = fused_network(path, options) if fused else path

    def load() -> Any:
        with returning_memory():
            return onnxruntime.InferenceSession(
                network, options, providers=["CPUExecutionProvider"]
            )

    session = loaded(path, load)
    return _CpuEngine(signature, name or str(path), session, onnxruntime.RunOptions)


def cpu_refusal() -> str | None:
    """The reason why this backend cannot open here, or None."""
    try:
        import_onnxruntime()
    except EngineError as error:
        return str(error)
    return None


class _CpuEngine(Engine):
    library, blocks = "onnxruntime", True

    def __init__(
        self, signature: Signature, name: str, session: Any, new_run_options: Callable[[], Any]
    ) -> None:
        super().__init__(signature, name)
        self._session = session
        self._new_run_options = new_run_options

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        run_options = self._new_run_options()  # each run is terminated on its own
        run_options.log_severity_level = LOG_NOTHING
        with (
            onnxruntime_errors(lambda: f"{self.name}: onnxruntime failed on {feeds_text(values)}"),
            terminable(run_options),
        ):
            results = self._session.run(outputs, values, run_options)
        return dict(zip(outputs, results, strict=True))

    def _release(self) -> None:
        self._session = None  # a session is freed with its last reference
        return_freed_memory()


def _open(source: Source, target: Settings, num_threads: int | None) -> Engine:
    prepared = source.own_graph is not None and source.precision != INT8
    return engine_from_onnx(
        source.graph,
        name=source.name,
        num_threads=num_threads,
        fused=not prepared,
        prepared=prepared,
    )


CPU = Backend(
    name="cpu",
    packages=("onnxruntime", "onnxruntime-gpu"),
    refusal=lambda target: cpu_refusal(),
    open=_open,
    runs="prepared graph",
    on_cpu=True,
    precisions=("fp32", INT8),
    # It makes the weights float32, and then those of convolutions again for its kernels.
    memory=MemoryUse(opening=1.15, weights=1.1, feature_maps=5, scores=2.1, fuses=True, widened=1),
)
