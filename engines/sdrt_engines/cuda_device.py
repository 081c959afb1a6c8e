"""This machine's first GPU, through cuda-python, which only this file imports, when needed.

This code has not run on a GPU yet; the tests run it on a simulated one.
"""

from __future__ import annotations

import threading
import weakref
from functools import cache
from importlib import import_module
from typing import Any

import numpy as np

from sdrt_engines.device_memory import Blocks, Slot, bytes_of
from sdrt_engines.errors import EngineError, OutOfMemoryError, raise_interrupt
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

    Uploads, copies and downloads require the lock `turn`. They run in order on the stream and are
    complete after `wait`.
    """

    def __init__(self, cuda: Any) -> None:
        self.cuda = cuda  # cuda.bindings.runtime
        self.stream = int(checked(self.cuda.cudaStreamCreate()))
        self.scratch = self.slot()
        self.blocks = Blocks(self._allocate, self._free)
        self.turn = threading.Lock()
        self._uploading: list[Array] = []  # sources of pending copies

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

    def _allocate(self, size: int) -> int:
        code, _ = result = self.cuda.cudaMalloc(size)
        if int(code):  # perhaps out of memory that idle blocks hold
            self.blocks.release()
            result = self.cuda.cudaMalloc(size)
        return int(checked(result))

    def _free(self, address: int) -> None:
        checked(self.cuda.cudaFree(address))

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        checked(self.cuda.cudaMemcpyAsync(target, source, size, kind, self.stream))


class Block(DeviceArray):
    """An array in its own device memory. EngineError if there is not enough memory."""

    def __init__(self, device: Device, dtype: np.dtype[Any], shape: tuple[int, ...]) -> None:
        super().__init__(dtype, shape)
        self._device = device
        self.size = bytes_of(dtype, shape)
        self.address = device.blocks.take(self.size)
        weakref.finalize(self, device.blocks.give_back, self.address, self.size)

    def numpy(self) -> Array:
        array = np.empty(self.shape, self.dtype)
        with self._device.turn:
            self._device.download(self.address, array)
            self._device.wait()
        return array


@cache
def shared_device() -> Device:
    return Device(_cuda())


def _cuda() -> Any:
    try:
        return import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise_interrupt(error)
        raise EngineError(
            f"cuda-python cannot be imported ({error}): pip install cuda-python"
        ) from error


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call; EngineError if it failed."""
    code, *values = result
    if int(code):
        failure = f"CUDA failed: {code.name}"
        if code.name == "cudaErrorMemoryAllocation":
            raise OutOfMemoryError(f"{failure}: take a smaller size or batch")
        raise EngineError(f"{failure}: update the driver, or report this")
    return values[0] if values else None
