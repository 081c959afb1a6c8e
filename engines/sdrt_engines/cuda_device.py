"""This machine's first GPU, through cuda-python, which only this file imports, when needed.

This code has not run on a GPU yet; the tests run it on a simulated one.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from sdrt_engines.device_memory import Blocks, Slot, bytes_of
from sdrt_engines.errors import EngineError, OutOfMemoryError
from sdrt_engines.importing import importing
from sdrt_engines.nvidia_driver import driver_refusal, gpus
from sdrt_engines.tensor import Array, DeviceArray


def gpu_architecture() -> str:
    """The architecture of this machine's first GPU: "sm89".

    EngineError if there is no GPU or cuda-python is not installed.
    """
    _cuda()
    if reason := driver_refusal():
        raise EngineError(reason)
    return gpus()[0].architecture


class Device:
    """The stream, the memory and the lock that all engines share.

    Everything that touches the GPU happens in a `turn`: runs, and also opening and closing a plan,
    as both wait for the whole device, which CUDA forbids while another thread captures a graph.
    Uploads, copies and downloads run in order on the stream and are complete after `wait`.
    """

    def __init__(self, cuda: Any) -> None:
        self.cuda = cuda  # cuda.bindings.runtime
        self.process = os.getpid()
        # Non-blocking: a blocking stream cannot capture while any other library uses the legacy
        # stream. In return, nothing on that stream is ordered with ours: see `settle`.
        created = self.cuda.cudaStreamCreateWithFlags(self.cuda.cudaStreamNonBlocking)
        self.stream = int(checked(created))
        self.scratch = self.slot()
        self.blocks = Blocks(self._allocate, self._free)
        # A bare lock: an interrupt can come between a context manager in Python and its release.
        self.turn = threading.Lock()
        self._num_engines = 0
        self._uploading: list[Array] = []  # sources of pending copies

    def join(self) -> None:
        """Counts an engine that opens."""
        self._num_engines += 1

    def leave(self) -> None:
        """The last engine to close leaves only the memory of blocks that are still held."""
        self._num_engines -= 1
        if not self._num_engines:
            self.release_idle()
            self._uploading.clear()  # no copy is pending, unless the GPU is lost

    def slot(self) -> Slot:
        return Slot(self._allocate, self._free)

    def upload(self, array: Array, address: int) -> None:
        contiguous = np.ascontiguousarray(array)
        self._uploading.append(contiguous)
        to_device = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, contiguous.ctypes.data, contiguous.nbytes, to_device)

    def download(self, address: int, array: Array) -> None:
        to_host = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, to_host)

    def copy(self, source: int, target: int, size: int) -> None:
        self._copy(target, source, size, self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToDevice)

    def wait(self) -> None:
        checked(self.cuda.cudaStreamSynchronize(self.stream))
        self._uploading.clear()

    def settle(self) -> None:
        """Waits for the whole GPU, after a library has copied something to it.

        `cudaMemcpy` from pageable memory may return before its data have arrived, and our stream
        does not wait for them.
        """
        checked(self.cuda.cudaDeviceSynchronize())

    def captured(self, enqueue: Callable[[], object]) -> Any:
        """The work that `enqueue` puts on the stream, as an executable graph. It does not run.

        EngineError if it cannot be captured. Whatever is raised, the stream captures no longer.
        """
        # Thread-local, not global: what other threads do is their own affair. Not relaxed: memory
        # that TensorRT allocated here would not be allocated again when the graph is launched.
        mode = self.cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        try:
            checked(self.cuda.cudaStreamBeginCapture(self.stream, mode))
            enqueue()
            graph = checked(self.cuda.cudaStreamEndCapture(self.stream))
        except BaseException:
            self._end_capture()
            raise
        try:
            return checked(self.cuda.cudaGraphInstantiate(graph, 0))
        finally:
            self.cuda.cudaGraphDestroy(graph)

    def launch(self, graph: Any) -> None:
        checked(self.cuda.cudaGraphLaunch(graph, self.stream))

    def destroy(self, graph: Any) -> None:
        """Destroys an executable graph. Never fails, like `_free`."""
        with suppress(EngineError):
            self.wait()
        self.cuda.cudaGraphExecDestroy(graph)

    def release_idle(self) -> None:
        """Frees the memory that no engine needs between runs."""
        self.blocks.release()
        self.scratch.release()

    def give_back(self, address: int, size: int) -> None:
        """Takes the memory of a block that nothing refers to any more.

        Called by the garbage collector in any thread at any moment, even in a turn: it must not
        wait for one.
        """
        self.blocks.give_back(address, size)
        self.free_orphans()

    def free_orphans(self) -> None:
        """Frees blocks whose holders died after the last engine closed.

        Does nothing during a turn: whoever opens or closes an engine calls it afterwards.
        """
        while not self._num_engines and self.blocks.returned and self.turn.acquire(blocking=False):
            try:
                self.blocks.release()
            finally:
                self.turn.release()

    def _allocate(self, size: int) -> int:
        code, _ = result = self.cuda.cudaMalloc(size)
        if int(code):  # perhaps out of memory that idle blocks or other networks' scratch hold
            self._forget_error()
            self.release_idle()
            result = self.cuda.cudaMalloc(size)
        return int(checked(result))

    def _free(self, address: int) -> None:
        """Frees memory after the work that may use it. Never fails: if the GPU is lost, so is the
        memory, and the next run reports it."""
        with suppress(EngineError):
            self.wait()
        self.cuda.cudaFree(address)

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        checked(self.cuda.cudaMemcpyAsync(target, source, size, kind, self.stream))

    def _end_capture(self) -> None:
        code, graph = self.cuda.cudaStreamEndCapture(self.stream)
        if not int(code):
            self.cuda.cudaGraphDestroy(graph)
        self._forget_error()

    def _forget_error(self) -> None:
        """CUDA keeps the last error for each thread, and other libraries would find ours there."""
        self.cuda.cudaGetLastError()


class Block(DeviceArray):
    """An array in its own device memory. EngineError if there is not enough memory."""

    def __init__(self, device: Device, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        super().__init__(dtype, shape)
        self.device = device
        self.size = bytes_of(dtype, shape)
        self.address = device.blocks.take(self.size)
        given_back = weakref.finalize(self, device.give_back, self.address, self.size)
        given_back.atexit = False  # the process's memory is freed anyway

    def numpy(self) -> Array:
        array = np.empty(self.shape, self.dtype)
        with self.device.turn:
            self.device.download(self.address, array)
            self.device.wait()
        return array


_FIRST_USE = threading.Lock()


def shared_device() -> Device:
    """The one device of this process. EngineError if it was inherited by a fork."""
    with _FIRST_USE:  # `cache` may call a function twice if two threads call it at once
        device = _device()
    if device.process != os.getpid():
        raise EngineError(
            "CUDA was used before this process was forked, and cannot be used here: open the "
            "bundle after the fork only, or start the process with spawn"
        )
    return device


@cache
def _device() -> Device:
    return Device(_cuda())


def _cuda() -> Any:
    with importing("cuda", "pip install cuda-python"):
        return import_module("cuda.bindings.runtime")


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call; EngineError if it failed."""
    code, *values = result
    if int(code):
        failure = f"CUDA failed: {code.name}"
        if code.name == "cudaErrorMemoryAllocation":
            raise OutOfMemoryError(f"{failure}: take a smaller size or batch")
        raise EngineError(f"{failure}: update the driver, or report this")
    return values[0] if values else None
