"""The `openvino` backend: OpenVINO on the CPU.

A network is compiled once, for all shapes. Tried and rejected, with openvino 2026.4:

* Compiling it for each shape. A step of SD1.5 is up to 3 % faster (`bench/openvino_unet.py`), one
  of the demo model 25 %, but each shape holds a copy of the weights, and compiling a shape again
  takes as long as opening the network (`bench/shapes_in_turn.py`).
* Compiling it for the first shape and, once, for all others. The two differ in the last bits, so
  rows alone would differ from rows in a batch.
* Compiling it for one size and all batches: a step is no faster than for all sizes.
* OpenVINO's cache of compiled networks: opens in 4.4 s instead of 4.8 s (SD1.5's UNet), from a
  file of 3.4 GB in which a flipped bit goes unnoticed and changes the numbers.

For an index outside of a table OpenVINO reads a zero; ONNX Runtime raises an error.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, Literal, TypeAlias, cast

import numpy as np

from sdrt_engines.backend import INT8, Backend, MemoryUse, Settings, Source
from sdrt_engines.engine import Engine
from sdrt_engines.errors import EngineError
from sdrt_engines.forks import OneProcess
from sdrt_engines.interruptible import cancelled_by, interruptible, turn_of
from sdrt_engines.mapped_files import released_meanwhile
from sdrt_engines.onnx_data_files import data_files_of
from sdrt_engines.onnx_signature import signature_from_onnx
from sdrt_engines.openvino_graph import prepare_graph
from sdrt_engines.openvino_library import (
    INSTALL,
    core,
    make_type_tables,
    openvino,
    openvino_errors,
    reason_of,
)
from sdrt_engines.regular_file import FileIdentity
from sdrt_engines.tensor import Array, Signature, feeds_text
from sdrt_engines.threads import require_num_threads

_Shapes: TypeAlias = tuple[tuple[int, ...], ...]
OpenVinoPrecision: TypeAlias = Literal["fp32", "bf16", "int8"]

_PRECISIONS: tuple[OpenVinoPrecision, ...] = ("fp32", "bf16", INT8)
_COMPILER = OneProcess("openvino")  # in a fork, a new network waits for threads of an old one


def openvino_engine_from_onnx(
    path: str | PathLike[str],
    *,
    precision: OpenVinoPrecision = "fp32",
    name: str | None = None,
    num_threads: int | None = None,
) -> Engine:
    """The network in the ONNX file at `path`, on the CPU, with weights from the files next to it.

    "bf16" computes matrix products and convolutions in bfloat16 if the CPU can, whatever type the
    weights are stored in. "int8" is for graphs that say which layers compute in it; the others do
    in bfloat16 if the CPU can. `name` begins error messages; the path by default. `num_threads`
    None leaves the choice to OpenVINO: one per physical core. EngineError if OpenVINO is missing,
    or the file is missing, broken, or uses operators that OpenVINO does not support.
    """
    require_num_threads(num_threads)
    if reason := openvino_refusal(precision):
        raise EngineError(reason)
    path = Path(path)
    signature = signature_from_onnx(path)
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": _hint(precision)}
    if num_threads is not None:
        options["INFERENCE_NUM_THREADS"] = str(num_threads)
    _COMPILER.use()
    network = _Network.at(path, options)
    compiled = interruptible(network.compile, waits=False)
    return _OpenVinoEngine(signature, name or str(path), network, compiled)


def openvino_refusal(precision: OpenVinoPrecision = "fp32") -> str | None:
    """The reason why this backend cannot open here, or None. Imports OpenVINO if installed."""
    if find_spec("openvino") is None:
        return f"openvino is not installed: {INSTALL}"
    if reason := _COMPILER.refusal():
        return reason
    try:
        has_bf16 = _computes_in_bf16()
    except EngineError as error:
        return str(error)
    except RuntimeError as error:
        return f"openvino does not open the CPU ({reason_of(error)}): {INSTALL}"
    if precision == "bf16" and not has_bf16:
        return "this CPU does not compute in bfloat16 (AVX512-BF16 or AMX): use 'openvino'"
    return None


def _computes_in_bf16() -> bool:
    return "BF16" in core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


def _hint(precision: OpenVinoPrecision) -> str:
    """The type of everything that does not compute in int8."""
    if precision == "bf16" or (precision == INT8 and _computes_in_bf16()):
        return "bf16"
    return "f32"


@dataclass(frozen=True)
class _Network:
    """An ONNX file with its weights, as they were when it was first compiled."""

    path: Path
    options: Mapping[str, str]
    files: Mapping[Path, FileIdentity | None]

    @classmethod
    def at(cls, path: Path, options: Mapping[str, str]) -> _Network:
        files = (path, *(path.parent / name for name in data_files_of(path)))
        return cls(path, options, {file: _identity(file) for file in files})

    @property
    def is_unchanged(self) -> bool:
        return all(_identity(file) == found for file, found in self.files.items())

    def compile(self) -> Any:
        with openvino_errors(lambda: f"{self.path}: does not load"):
            make_type_tables()
            model = core().read_model(self.path)
            prepare_graph(model)
            return core().compile_model(model, "CPU", dict(self.options))

    def packing(self) -> AbstractContextManager[None]:
        """For the first run of shapes, which copies the weights as its computation wants them."""
        return released_meanwhile(self.files)


def _identity(path: Path) -> FileIdentity | None:
    """None if the file does not exist."""
    try:
        return FileIdentity.of(path.stat())
    except OSError:
        return None


class _OpenVinoEngine(Engine):
    """A network that is compiled for all shapes. Runs take turns: OpenVINO computes them one after
    another anyway, and a request per thread would need memory per thread.

    A run that ends early leaves the shapes of some nodes as they were before it and of others as it
    wanted them, in the compiled network. The next run then returns wrong numbers, silently, if its
    shapes are those from before (openvino 2026.4). So it is compiled again, if shapes changed.
    """

    library, blocks = "openvino", True

    def __init__(self, signature: Signature, name: str, network: _Network, compiled: Any) -> None:
        super().__init__(signature, name)
        self._network = network
        self._compiled = compiled  # None: compile it again
        self._request: Any = None
        self._shapes: _Shapes | None = None  # of the last run
        self._turn = Lock()

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        with (
            openvino_errors(lambda: f"{self.name}: openvino failed on {feeds_text(values)}"),
            turn_of(self._turn),
        ):
            compiled = self._compiled or self._compile_again()
            request = self._request or compiled.create_infer_request()
            shapes = tuple(tuple(value.shape) for value in values.values())
            packing = nullcontext() if shapes == self._shapes else self._network.packing()
            new_shapes = self._shapes not in (None, shapes)
            self._shapes, self._request = shapes, None  # its state is undefined after an error
            if new_shapes:
                self._compiled = None
            with packing, cancelled_by(self._cancel(request, new_shapes)):
                request.start_async(values, share_inputs=True)
                request.wait()
            self._compiled, self._request = compiled, request
            # copied: the request's next run overwrites its memory
            return {name: np.array(request.get_tensor(name).data) for name in outputs}

    def _cancel(self, request: Any, new_shapes: bool) -> Callable[[], object]:
        """Ends the run between two nodes, unless the network cannot be compiled again then.

        On one thread OpenVINO ignores it if `infer` runs the network instead of `start_async`.
        """
        if new_shapes and not self._network.is_unchanged:
            return lambda: None
        cancel: Callable[[], object] = request.cancel
        return cancel

    def _compile_again(self) -> Any:
        if not self._network.is_unchanged:
            raise EngineError(
                f"{self.name}: the last run failed, and the files have changed since the network "
                "was opened: open it again"
            )
        self._shapes = None
        return self._network.compile()

    def _pin(self, name: str, array: Array) -> Any:
        """A copy: nothing is uploaded on the CPU, and no wrapping is needed at each run."""
        return openvino().Tensor(np.ascontiguousarray(array))

    def _release(self) -> None:
        self._request = self._compiled = None


def _open(source: Source, target: Settings, num_threads: int | None) -> Engine:
    precision = _precision(target)
    if precision == INT8 and source.precision != INT8:
        precision = "fp32"  # of networks that were not built in int8
    return openvino_engine_from_onnx(
        source.graph, precision=precision, name=source.name, num_threads=num_threads
    )


def _precision(target: Settings) -> OpenVinoPrecision:
    return cast(OpenVinoPrecision, OPENVINO.chosen_precision(target))


OPENVINO = Backend(
    name="openvino",
    packages=("openvino",),
    refusal=lambda target: openvino_refusal(_precision(target)),
    open=_open,
    runs="network",
    on_cpu=True,
    precisions=_PRECISIONS,
    memory=MemoryUse(opening=0.4, weights=1.15, feature_maps=4.8, scores=0),
)
