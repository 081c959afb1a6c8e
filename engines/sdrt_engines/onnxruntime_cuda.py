"""The `cuda` backend: ONNX Runtime on an NVIDIA GPU.

The code that binds buffers is tested on the CPU, by the same class; `bench/gpu.py` measures a GPU.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext, redirect_stdout, suppress
from dataclasses import dataclass
from itertools import count
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np

from sdrt_engines.backend import Backend, MemoryUse
from sdrt_engines.dimensions import size_of
from sdrt_engines.engine import Engine
from sdrt_engines.errors import EngineError
from sdrt_engines.interruptible import turn_of
from sdrt_engines.nvidia_driver import driver_refusal
from sdrt_engines.onnx_signature import signature_from_onnx
from sdrt_engines.onnxruntime_library import (
    LOG_NOTHING,
    import_onnxruntime,
    loaded,
    onnxruntime_errors,
    terminable,
)
from sdrt_engines.packages import installed_versions
from sdrt_engines.recent import Recent
from sdrt_engines.tensor import Array, DeviceArray, Signature, TensorSpec, shape_text

NUM_SHAPES = 4  # sets of buffers, and of captured graphs, that an engine keeps

_PROVIDER = "CUDAExecutionProvider"
# Both packages write the same files: the one that was installed last overwrites the other.
WAY_OUT_OF_BOTH = "pip install --force-reinstall --no-deps onnxruntime-gpu"

# FLASH_ATTENTION, EFFICIENT_ATTENTION and CUDNN_FLASH_ATTENTION. By default the last is not
# considered, which is the fastest on an H100 (`bench/results/gpu.jsonl`).
_ATTENTION_KERNELS = 1 + 2 + 8


def cuda_engine_from_onnx(
    path: str | PathLike[str],
    *,
    name: str | None = None,
    half: bool = False,
    cuda_graph: bool = True,
) -> Engine:
    """The network in the ONNX file at `path`, on the first GPU, with weights from files next to it.

    `half` means that the graph computes in half precision. `cuda_graph` records the work of a shape
    once and replays it, if all output shapes follow from the input shapes and no part of the
    network runs on the CPU. EngineError if the backend does not open here (`cuda_refusal`), or the
    file is missing or broken.
    """
    if reason := cuda_refusal():
        raise EngineError(reason)
    path = Path(path)
    signature = signature_from_onnx(path)
    onnxruntime = import_onnxruntime()
    with redirect_stdout(None):  # it prints missing libraries; so does the session
        onnxruntime.preload_dlls()
    session, captures = loaded(path, lambda: _session(onnxruntime, path, half, cuda_graph))
    if _PROVIDER not in session.get_providers():  # it would silently run on the CPU
        raise EngineError(
            f"{path}: onnxruntime cannot load its CUDA libraries: pip install 'sdrt[cuda]'"
        )
    return BoundEngine(signature, name or str(path), session, "cuda", cuda_graph=captures)


def _session(onnxruntime: Any, path: Path, half: bool, cuda_graph: bool) -> tuple[Any, bool]:
    """A session, and True if it captures graphs: one that runs partly on the CPU cannot."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = LOG_NOTHING
    provider_options = provider_options_for(half=half, cuda_graph=cuda_graph)
    try:
        session = onnxruntime.InferenceSession(
            path, options, providers=[(_PROVIDER, provider_options)]
        )
    except Exception as error:
        if not cuda_graph or "graph capture" not in str(error):
            raise
        return _session(onnxruntime, path, half, False)
    return session, cuda_graph


def provider_options_for(*, half: bool, cuda_graph: bool) -> dict[str, str]:
    """The options of ONNX Runtime's CUDA provider.

    In float32, TF32 is off: its products have ten bits, which changes the image. In half precision
    it is on: without it cuDNN does not use the tensor cores, whatever the type.
    """
    return {
        "enable_cuda_graph": str(int(cuda_graph)),
        "use_tf32": str(int(half)),
        "sdpa_kernel": str(_ATTENTION_KERNELS),
    }


def cuda_refusal() -> str | None:
    """The reason why this backend cannot open here, or None; the driver is checked first."""
    return driver_refusal() or package_refusal()


def package_refusal() -> str | None:
    """The reason why the installed onnxruntime cannot use CUDA, or None."""
    try:
        providers = import_onnxruntime().get_available_providers()
    except EngineError as error:
        return f"{error}, or 'sdrt[cuda]' for CUDA"
    if _PROVIDER in providers:
        return None
    if installed_versions("onnxruntime-gpu"):
        return (
            "onnxruntime and onnxruntime-gpu are both installed and write the same files; those "
            f"of onnxruntime, without CUDA, came last: {WAY_OUT_OF_BOTH}"
        )
    return (
        "the installed onnxruntime does not support CUDA: pip install 'sdrt[cuda]', and if that "
        f"is not enough {WAY_OUT_OF_BOTH}"
    )


class _OrtArray(DeviceArray):
    """An array in ONNX Runtime's memory on a device."""

    def __init__(
        self, dtype: np.dtype[Any], shape: tuple[int, ...], value: Any, device: str
    ) -> None:
        super().__init__(dtype, shape)
        self.value, self.device = value, device

    def numpy(self) -> Array:
        return np.array(self.value.numpy())


@dataclass(frozen=True)
class _Buffers:
    """Memory on the device for all inputs and outputs of one shape, and its binding to them."""

    binding: Any
    inputs: dict[str, Any]
    unknown: tuple[str, ...]  # outputs whose size is known only after a run
    run_options: Any
    graph: int  # its captured graph; -1 if not captured
    pinned: dict[str, Any]  # by input: the pinned value in its memory

    def fill(self, name: str, value: Any) -> None:
        """Copies the value into the input's memory, unless that pinned value is already there."""
        is_pinned = not isinstance(value, np.ndarray | _OrtArray)
        if is_pinned and self.pinned.get(name) is value:
            return
        self.pinned.pop(name, None)  # first: a failed copy leaves undefined contents
        if isinstance(value, np.ndarray):
            value = np.asarray(value, order="C")  # older versions read any layout as this one
        self.inputs[name].update_inplace(value.value if isinstance(value, _OrtArray) else value)
        if is_pinned:
            self.pinned[name] = value


class BoundEngine(Engine):
    """A session with its inputs and outputs in buffers on a device, kept per set of shapes.

    Pinned feeds and outputs of other engines on the device are copied there. Only the requested
    outputs are returned. Runs take turns, as they share the buffers.
    """

    library, blocks = "onnxruntime", True

    def __init__(
        self,
        signature: Signature,
        name: str,
        session: Any,
        device: Literal["cpu", "cuda"],
        *,
        cuda_graph: bool = False,
    ) -> None:
        super().__init__(signature, name)
        self._session = session
        self._device = device
        self._cuda_graph = cuda_graph
        self._onnxruntime = import_onnxruntime()
        self._buffers: Recent[_Buffers] = Recent(NUM_SHAPES, self._free)
        self._graphs = count(1)
        self._running = Lock()

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        with self._results(values, sizes) as results:
            return {name: np.array(results[name].numpy()) for name in outputs}

    def _run_on_device(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array | DeviceArray]:
        with self._results(values, sizes) as results:
            return {name: self._kept(name, results[name]) for name in outputs}

    def _takes(self, array: DeviceArray) -> bool:
        return isinstance(array, _OrtArray) and array.device == self._device

    @contextmanager
    def _results(self, values: dict[str, Any], sizes: dict[str, int]) -> Iterator[dict[str, Any]]:
        """All outputs of a run, in buffers that the next one overwrites."""
        with turn_of(self._running):
            shape = tuple(sizes.values())
            with onnxruntime_errors(lambda: self._failure(sizes)):
                buffers = self._buffers.get_or_make(shape, lambda: self._new_buffers(sizes))
                for name, value in values.items():
                    buffers.fill(name, value)
                for name in buffers.unknown:  # otherwise it would hold the last run's output
                    buffers.binding.bind_output(name, self._device)
                # a captured graph is one node, and a capture must not end half way
                with terminable(buffers.run_options) if buffers.graph < 0 else nullcontext():
                    self._session.run_with_iobinding(buffers.binding, buffers.run_options)
                yield dict(zip(self._outputs, buffers.binding.get_outputs(), strict=True))

    def _failure(self, sizes: dict[str, int]) -> str:
        feeds = ", ".join(
            f"{spec.name} {shape_text(_shape(spec, sizes) or ())}" for spec in self.signature.inputs
        )
        return f"{self.name}: onnxruntime failed on {feeds}"

    def _kept(self, name: str, result: Any) -> _OrtArray:
        dtype, shape = self._outputs[name].dtype, tuple(result.shape())
        copy = self._new(shape, dtype)
        copy.update_inplace(result)
        return _OrtArray(dtype, shape, copy, self._device)

    def _new_buffers(self, sizes: dict[str, int]) -> _Buffers:
        binding = self._session.io_binding()
        inputs = {spec.name: self._empty(spec, sizes) for spec in self.signature.inputs}
        for name, value in inputs.items():
            binding.bind_ortvalue_input(name, value)
        outputs = {spec.name: self._empty(spec, sizes) for spec in self.signature.outputs}
        for name, value in outputs.items():
            if value is None:
                binding.bind_output(name, self._device)
            else:
                binding.bind_ortvalue_output(name, value)
        unknown = tuple(name for name, value in outputs.items() if value is None)
        graph = next(self._graphs) if self._cuda_graph and not unknown else -1
        run_options = self._onnxruntime.RunOptions()
        run_options.log_severity_level = LOG_NOTHING
        run_options.add_run_config_entry("gpu_graph_id", str(graph))
        return _Buffers(binding, inputs, unknown, run_options, graph, {})

    def _empty(self, spec: TensorSpec, sizes: dict[str, int]) -> Any:
        """Memory on the device for a tensor, or None if its shape is not known before a run."""
        shape = _shape(spec, sizes)
        return None if shape is None else self._new(shape, spec.dtype)

    def _new(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        new = self._onnxruntime.OrtValue.ortvalue_from_shape_and_type
        return new(shape, dtype.type, self._device, 0)

    def _free(self, buffers: _Buffers) -> None:
        if buffers.graph >= 0:
            with suppress(Exception):  # the GPU is lost: the rest must be freed all the same
                self._session.release_captured_graph(buffers.graph)

    def _pin(self, name: str, array: Array) -> Any:
        contiguous = np.array(array, order="C")
        return self._onnxruntime.OrtValue.ortvalue_from_numpy(contiguous, self._device, 0)

    def _release(self) -> None:
        self._buffers.clear()
        self._session = None


def _shape(spec: TensorSpec, sizes: dict[str, int]) -> tuple[int, ...] | None:
    """The tensor's shape in a run of these sizes, or None if it is not known."""
    known = tuple(size_of(dim, sizes) for dim in spec.shape)
    return None if None in known else tuple(size for size in known if size is not None)


CUDA = Backend(
    name="cuda",
    packages=("onnxruntime-gpu",),
    refusal=lambda target: cuda_refusal(),
    open=lambda source, target, num_threads: cuda_engine_from_onnx(
        source.graph, name=source.name, half=source.precision != "fp32"
    ),
    runs="half graph",
    # A session that allocates memory while another one captures a graph breaks the capture, which
    # ONNX Runtime begins for all threads of the process (`cudaStreamCaptureModeGlobal`).
    opens_during_runs=False,
    memory=MemoryUse(opening=1, weights=1, feature_maps=4, scores=0),  # of fused attention
)
