"""This machine's first GPU, through cuda-python, which is imported here alone, when asked.

What calls CUDA here has not run on a GPU yet; `driver_refusal` is arithmetic, and tested.
"""

from __future__ import annotations

import threading
from functools import cache
from importlib import import_module
from typing import Any

from sdrt_engines.device_memory import Slot
from sdrt_engines.errors import EngineError
from sdrt_engines.tensor import Array


def gpu_architecture() -> str:
    """The architecture of this machine's first GPU: "sm89". EngineError where there is none."""
    cuda = _cuda()
    if reason := driver_refusal(*_driver()):
        raise EngineError(reason)
    attributes = cuda.cudaDeviceAttr
    kinds = (
        attributes.cudaDevAttrComputeCapabilityMajor,
        attributes.cudaDevAttrComputeCapabilityMinor,
    )
    major, minor = (checked(cuda.cudaDeviceGetAttribute(kind, 0)) for kind in kinds)
    return f"sm{major}{minor}"


def driver_refusal(num_devices: int, driver: int, runtime: int) -> str | None:
    """Why CUDA does not work with a driver of this version, or None.

    Versions as CUDA counts them, 13020 for 13.2; 0 for no driver.
    """
    if driver == 0:
        return "there is no NVIDIA driver here: install one, or use target cpu"
    if driver // 1000 < runtime // 1000:
        return (
            f"the NVIDIA driver knows CUDA {_cuda_version(driver)}, expected "
            f"{runtime // 1000}.0 or newer: update the driver, or use target cpu"
        )
    if num_devices == 0:
        return "the NVIDIA driver finds no GPU here: make one visible to it, or use target cpu"
    return None


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


def _driver() -> tuple[int, int, int]:
    """The number of GPUs, and the CUDA versions of driver and runtime. 0 where unknown."""
    cuda = _cuda()
    (no_devices, devices), (no_driver, driver), (no_runtime, runtime) = (
        cuda.cudaGetDeviceCount(),
        cuda.cudaDriverGetVersion(),
        cuda.cudaRuntimeGetVersion(),
    )
    return (
        0 if int(no_devices) else int(devices),
        0 if int(no_driver) else int(driver),
        0 if int(no_runtime) else int(runtime),
    )


def checked(result: tuple[Any, ...]) -> Any:
    """The value of a CUDA call; EngineError where it failed."""
    code, *values = result
    if int(code):
        memory = "MemoryAllocation" in str(code)
        way_out = "take a smaller size or batch" if memory else "update the driver, or report this"
        raise EngineError(f"CUDA fails: {getattr(code, 'name', code)}: {way_out}")
    return values[0] if values else None


def _cuda_version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
