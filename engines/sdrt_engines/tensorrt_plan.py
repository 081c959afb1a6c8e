"""The `tensorrt` and `tensorrt-rtx` backends: plans that were built before, run through CUDA.

The only file that imports their libraries, and not before it must. Both speak the same interface;
where they differ, TensorRT-RTX captures CUDA graphs itself and keeps what it
compiles for this GPU in a cache.

One stream and one block of scratch memory serve all engines of a process: their runs follow one
another. A run uploads what changed, computes, downloads, and waits once; one whose outputs stay on
the device waits for nothing.

Nothing in the class below has run on a GPU yet. What does not need one is in `device_memory`,
`shape_profiles` and the functions that tell why a plan or a machine is refused; these are tested.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from sdrt_engines.cuda_device import Block, checked, gpu_architecture, shared_device
from sdrt_engines.device_memory import Slot, Upload, bytes_of, graph_key, to_upload
from sdrt_engines.engine import Engine
from sdrt_engines.errors import EngineError
from sdrt_engines.recent import Recent
from sdrt_engines.shape_profiles import Profile, choose_profile
from sdrt_engines.tensor import Array, DeviceArray, Signature

TensorRT: TypeAlias = Literal["tensorrt", "tensorrt-rtx"]

LIBRARIES: Final[Mapping[TensorRT, str]] = {
    "tensorrt": "tensorrt",
    "tensorrt-rtx": "tensorrt_rtx",
}
_MAX_GRAPHS = 8  # CUDA graphs kept per engine: a few shapes are drawn again and again


def library_version(backend: TensorRT) -> str:
    """The version of the library that is installed; EngineError with the pip command if none is."""
    return str(_library(backend).__version__)


def tensorrt_refusal(backend: TensorRT) -> str | None:
    """Why this backend cannot open here, or None."""
    try:
        _require_installed(backend)  # loading it takes long: not before a GPU is known to be there
        gpu_architecture()
        _library(backend)
    except EngineError as error:
        return str(error)
    return None


def plan_refusal(
    *,
    library: str,
    built_with: str,
    installed: str,
    built_for: Sequence[str],
    architecture: str,
) -> str | None:
    """Why a plan does not run here, or None.

    An empty `built_for` is TensorRT-RTX's own choice: Ampere and all that came after it.
    """
    if built_with != installed:
        return f"it was built with {library} {built_with}, {installed} is installed"
    fits = architecture in built_for if built_for else int(architecture[2:]) >= 80
    if not fits:
        made_for = ", ".join(built_for) or "sm80 and later"
        return f"it was built for {made_for}, this GPU is {architecture}"
    return None


def engine_from_plan(
    path: Path, *, name: str, backend: TensorRT, signature: Signature, profiles: Sequence[Profile]
) -> Engine:
    """The network in the plan at `path`, on this machine's first GPU.

    The plan must be known to be whole and made for this machine: TensorRT itself crashes on some
    that are not. EngineError where it does not open all the same.
    """
    if reason := tensorrt_refusal(backend):
        raise EngineError(reason)
    return _TensorRTEngine(path, name, backend, signature, profiles)


class _TensorRTEngine(Engine):
    def __init__(
        self,
        path: Path,
        name: str,
        backend: TensorRT,
        signature: Signature,
        profiles: Sequence[Profile],
    ) -> None:
        super().__init__(signature, name)
        self._trt, self._device, self._profiles = _library(backend), shared_device(), profiles
        self._is_rtx = backend == "tensorrt-rtx"
        self._cache_path = path.with_suffix(f".{gpu_architecture()}.cache")
        runtime = self._trt.Runtime(_logger(backend))
        engine = runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise EngineError(f"{name}: {backend} does not open its plan: run `sdrt build` again")
        self._runtime, self._engine = runtime, engine
        self._runtime_cache: Any = None
        self._context = self._new_context()
        self._slots = {
            spec.name: self._device.slot() for spec in (*signature.inputs, *signature.outputs)
        }
        self._graphs: Recent[Any] = Recent(_MAX_GRAPHS, self._discard_graph)
        self._profile = 0  # that the context has been set to

    def _pin(self, name: str, array: Array) -> Upload:
        return Upload(super()._pin(name, array))

    def _run(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array]:
        with self._turn():
            self._enqueue(values)
            results = {name: self._fetched(name) for name in outputs}
            self._device.wait()
        return results

    def _run_on_device(
        self, values: dict[str, Any], outputs: Sequence[str], sizes: dict[str, int]
    ) -> dict[str, Array | DeviceArray]:
        with self._turn():
            self._enqueue(values)
            return {name: self._kept(name) for name in outputs}

    def _takes(self, array: DeviceArray) -> bool:
        return isinstance(array, Block)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        with self._device.turn:
            try:
                yield
            except BaseException:
                for slot in self._slots.values():
                    slot.content = None  # who knows what has arrived
                raise

    def _enqueue(self, values: Mapping[str, Any]) -> None:
        """Puts a run on the stream: what goes up, and the network."""
        shapes = {name: value.shape for name, value in values.items()}
        profile = choose_profile(self.name, self._profiles, shapes)
        self._bind(profile, shapes)
        for name, value in values.items():
            self._feed(self._slots[name], value)
        self._compute(graph_key(profile, shapes, self._slots, self._device.scratch.address))

    def _feed(self, slot: Slot, value: Array | Upload | Block) -> None:
        if isinstance(value, Block):  # a captured graph reads from its own addresses alone
            slot.content = None
            self._device.copy(value.address, slot.address, value.size)
        elif (array := to_upload(value, slot)) is not None:
            self._device.upload(array, slot.address)

    def _bind(self, profile: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        """Tells the context its profile, shapes and addresses; cheap where nothing changed."""
        context = self._context
        if profile != self._profile:
            self._told(context.set_optimization_profile_async(profile, self._device.stream))
            self._profile = profile
        for name, shape in shapes.items():
            self._told(context.set_input_shape(name, shape))
        for spec in (*self.signature.inputs, *self.signature.outputs):
            slot = self._slots[spec.name]
            slot.reserve(bytes_of(spec.dtype, tuple(context.get_tensor_shape(spec.name))))
            self._told(context.set_tensor_address(spec.name, slot.address))
        scratch = self._device.scratch
        scratch.reserve(self._engine.get_device_memory_size_for_profile_v2(profile))
        context.set_device_memory(scratch.address, scratch.capacity)

    def _compute(self, key: object) -> None:
        """Runs the context on the stream; where shapes are fixed, as one CUDA graph."""
        if self._is_rtx or not self._profiles[self._profile].static:
            self._told(self._context.execute_async_v3(self._device.stream))
            return
        if key not in self._graphs:
            # TensorRT finishes its set-up in the first run of a shape, which no graph may hold
            self._told(self._context.execute_async_v3(self._device.stream))
        graph = self._graphs.get_or_make(key, self._captured)
        checked(self._device.cuda.cudaGraphLaunch(graph, self._device.stream))

    def _captured(self) -> Any:
        cuda, stream = self._device.cuda, self._device.stream
        mode = cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        checked(cuda.cudaStreamBeginCapture(stream, mode))
        try:
            self._told(self._context.execute_async_v3(stream))
        finally:
            graph = checked(cuda.cudaStreamEndCapture(stream))
        executable = checked(cuda.cudaGraphInstantiate(graph, 0))
        checked(cuda.cudaGraphDestroy(graph))
        return executable

    def _fetched(self, name: str) -> Array:
        """An array that will hold the output once the stream has been waited for."""
        spec = self._outputs[name]
        array = np.empty(tuple(self._context.get_tensor_shape(name)), spec.dtype)
        self._device.download(self._slots[name].address, array)
        return array

    def _kept(self, name: str) -> Block:
        """The output in memory of its own: the next run overwrites the engine's."""
        spec = self._outputs[name]
        block = Block(self._device, spec.dtype, tuple(self._context.get_tensor_shape(name)))
        self._device.copy(self._slots[name].address, block.address, block.size)
        return block

    def _new_context(self) -> Any:
        strategies = self._trt.ExecutionContextAllocationStrategy
        if not self._is_rtx:
            return self._engine.create_execution_context(strategies.USER_MANAGED)
        config = self._engine.create_runtime_config()
        config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
        config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        self._runtime_cache = config.create_runtime_cache()
        if self._cache_path.is_file():  # one of another driver, GPU or version is not taken
            self._runtime_cache.deserialize(self._cache_path.read_bytes())
        config.set_runtime_cache(self._runtime_cache)
        return self._engine.create_execution_context(config)

    def _release(self) -> None:
        self._save_runtime_cache()
        self._graphs.clear()
        for slot in self._slots.values():
            slot.release()
        with self._device.turn:
            self._device.blocks.release()
        # in this order: a context needs its engine, an engine its runtime
        self._context = self._engine = self._runtime = None

    def _save_runtime_cache(self) -> None:
        """What this GPU needed compiled, for the next process. It is no loss where it fails."""
        if self._runtime_cache is None:
            return
        draft = self._cache_path.with_name(f".{self._cache_path.name}")
        try:
            draft.write_bytes(self._runtime_cache.serialize())
            draft.replace(self._cache_path)
        except OSError as error:
            import logging  # rarely needed, and slow to import

            logging.getLogger("sdrt").info("%s keeps no runtime cache: %s", self.name, error)

    def _told(self, success: Any) -> None:
        if not success:
            raise EngineError(f"{self.name}: TensorRT refused the run; its log says why")

    def _discard_graph(self, graph: Any) -> None:
        checked(self._device.cuda.cudaGraphExecDestroy(graph))


def _require_installed(backend: TensorRT) -> None:
    if find_spec(LIBRARIES[backend]) is None:
        raise EngineError(f"{LIBRARIES[backend]} is not installed: pip install 'sdrt[{backend}]'")


def _library(backend: TensorRT) -> Any:
    _require_installed(backend)
    module = LIBRARIES[backend]
    try:
        return import_module(module)
    except (ImportError, OSError) as error:  # OSError: a library of its own is missing
        raise EngineError(
            f"{module} cannot be imported ({error}): pip install 'sdrt[{backend}]'"
        ) from error


@cache
def _logger(backend: TensorRT) -> Any:
    """TensorRT keeps the first logger of a process for ever, so there is one."""
    trt = _library(backend)
    return trt.Logger(trt.Logger.ERROR)
