"""A plan opened by TensorRT: its runtime, its engine, and its contexts.

No plan has been opened on a GPU yet; the tests use a simulated TensorRT.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from sdrt_engines.cuda_device import Device
from sdrt_engines.errors import EngineError, OutOfMemoryError
from sdrt_engines.kernel_file import read_kernels, write_kernels
from sdrt_engines.log import log
from sdrt_engines.tensorrt_library import ErrorLog, tensorrt_error, tensorrt_errors


class OpenPlan:
    """A plan opened by TensorRT. Everything here needs a turn of the device.

    Each profile has its own context, made for its first run: NVIDIA advises one context for each
    captured graph, and a context that keeps its profile never copies another's state to the GPU.
    All contexts use the device's scratch memory.

    EngineError if it does not open, OutOfMemoryError if there is no memory for it; nothing of it is
    left open then. No function has an object of TensorRT in a local variable: a traceback would
    keep it, and its memory, while the next target opens.
    """

    def __init__(
        self,
        trt: Any,
        log: ErrorLog,
        content: bytes,
        *,
        name: str,
        device: Device,
        captures_itself: bool,
        kernels: Path | None = None,
    ) -> None:
        self._trt, self._log, self._name, self._device = trt, log, name, device
        self.captures_itself = captures_itself  # as TensorRT-RTX does
        self._kernels = kernels  # a file that keeps what TensorRT-RTX compiles for this GPU
        self._runtime: Any = None
        self._engine: Any = None
        self._config: Any = None
        self._cache: Any = None
        self._contexts: dict[int, Any] = {}
        try:
            self._open(content)
        except BaseException:
            self._destroy()
            raise

    def context(self, profile: int) -> Any:
        """The context of a profile. OutOfMemoryError if there is no memory for it."""
        self._log.clear()
        if profile not in self._contexts:
            self._add_context(profile)
        return self._contexts[profile]

    def scratch_size(self, profile: int) -> int:
        """The bytes of scratch memory that runs of a profile need."""
        size: int = self._engine.get_device_memory_size_for_profile_v2(profile)
        return size

    def error(self, failure: str) -> EngineError:
        """The error after TensorRT returned None or False."""
        return tensorrt_error(f"{self._name}: {failure}", self._log.text)

    def close(self) -> None:
        """Saves what was compiled, and destroys everything. Never fails, even on a lost GPU."""
        try:
            self._save_kernels()
        except Exception as error:  # the next process compiles again
            log().info("%s keeps no compiled kernels: %s", self._name, error)
        finally:
            self._destroy()

    def _open(self, content: bytes) -> None:
        self._runtime = self._made("runtime", lambda: self._trt.Runtime(self._log.logger))
        self._engine = self._made(
            "engine from this plan", lambda: self._runtime.deserialize_cuda_engine(content)
        )
        if self.captures_itself:
            self._configure()
        self.context(0)  # now, as the caller can still take another target

    def _configure(self) -> None:
        """Prepares TensorRT-RTX's own CUDA graphs, and the kernels of earlier processes."""
        self._config = self._made(
            "runtime configuration", lambda: self._engine.create_runtime_config()
        )
        self._cache = self._made("runtime cache", lambda: self._config.create_runtime_cache())
        with tensorrt_errors(lambda: f"{self._name}: TensorRT cannot be configured"):
            strategies = self._trt.ExecutionContextAllocationStrategy
            self._config.set_execution_context_allocation_strategy(strategies.USER_MANAGED)
            self._config.cuda_graph_strategy = self._trt.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
            if kept := self._kernels and read_kernels(self._kernels):
                with suppress(Exception):  # it ignores those of another driver, GPU or version
                    self._cache.deserialize(kept)
            self._config.set_runtime_cache(self._cache)

    def _add_context(self, profile: int) -> None:
        try:
            self._contexts[profile] = self._made("context", self._created_context)
            stream = self._device.stream
            if not self._contexts[profile].set_optimization_profile_async(profile, stream):
                raise self.error(f"TensorRT refuses profile {profile}")
            self._device.settle()  # the weights, too: a plan opens with its first context
        except BaseException:
            self._contexts.pop(profile, None)
            raise

    def _created_context(self) -> Any:
        return self._engine.create_execution_context(
            self._config or self._trt.ExecutionContextAllocationStrategy.USER_MANAGED
        )

    def _made(self, what: str, make: Callable[[], Any]) -> Any:
        """An object of TensorRT; after a lack of memory, tried once more without idle memory."""
        try:
            return self._made_once(what, make)
        except OutOfMemoryError:
            self._device.release_idle()
        return self._made_once(what, make)

    def _made_once(self, what: str, make: Callable[[], Any]) -> Any:
        failure = f"TensorRT cannot create the {what}"
        self._log.clear()
        with tensorrt_errors(lambda: f"{self._name}: {failure}"):
            made = make()
        if made is None:
            raise self.error(failure)
        return made

    def _save_kernels(self) -> None:
        if self._cache is not None and self._kernels is not None:
            write_kernels(self._kernels, bytes(self._cache.serialize()))

    def _destroy(self) -> None:
        """In this order: a context needs its engine, an engine its runtime."""
        self._contexts.clear()
        self._cache = self._config = None
        self._engine = None
        self._runtime = None
