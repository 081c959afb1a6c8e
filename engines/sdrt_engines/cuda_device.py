"""This machine's first GPU, through cuda-python, which is imported here alone, when asked.

Nothing of it has run on a GPU yet.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib import import_module
from typing import Any

from sdrt_engines.device_memory import Slot
from sdrt_engines.errors import EngineError
from sdrt_engines.nvidia_driver import driver_refusal, gpus
from sdrt_engines.tensor import Array


def gpu_architecture() -> str:
    """The architecture of this machine's first GPU: "sm89".

    EngineError where there is none, or cuda-python is not installed.
    """
    _cuda()
    if reason := driver_refusal():
        raise EngineError(reason)
    return gpus()[0].architecture


class Device:
    """What all engines share: a stream, scratch memory, and the right to use them."""

    def __init__(self) -> None:
        self.cuda = _cuda()
        self.stream = int(checked(self.cuda.cudaStreamCreate()))
        self.scratch = self.slot()
        self.turn = threading.Lock()

    def slot(self) -> Slot:
        return Slot(
            lambda size: int(checked(self.cuda.cudaMalloc(size))),
            lambda address: checked(self.cuda.cudaFree(address)),
        )

    def upload(self, array: Array, address: int) -> None:
        to_device = self.cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._copy(address, array.ctypes.data, array.nbytes, to_device)

    def download(self, address: int, array: Array) -> None:
        to_host = self.cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._copy(array.ctypes.data, address, array.nbytes, to_host)

    def wait(self) -> None:
        checked(self.cuda.cudaStreamSynchronize(self.stream))

    def _copy(self, target: int, source: int, size: int, kind: Any) -> None:
        checked(self.cuda.cudaMemcpyAsync(target, source, size, kind, self.stream))


@cache
def shared_device() -> Device:
    return Device()


def _cuda() -> Any:
    try:
        return import_module("cuda.bindings.runtime")
    except (ImportError, OSError) as error:
        raise EngineError(
            f"cuda-python cannot be imported ({error}): pip install cuda-python"
        ) from error


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call; EngineError where it failed."""
    code, *values = result
    if int(code):
        memory = "MemoryAllocation" in str(code)
        way_out = "take a smaller size or batch" if memory else "update the driver, or report this"
        raise EngineError(f"CUDA fails: {getattr(code, 'name', code)}: {way_out}")
    return values[0] if values else None
