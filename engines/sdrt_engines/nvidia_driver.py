"""Facts from the NVIDIA driver about this machine, asked directly: no package is needed."""

from __future__ import annotations

import ctypes
import sys
from dataclasses import dataclass
from functools import cache
from typing import Any

from sdrt_engines.forks import OneProcess
from sdrt_engines.system_memory import FreeMemory

CUDA_NEEDED = (13, 0)  # what the packages of the extras are built for
DRIVER_NEEDED = "580"  # the first with this CUDA

_CUDA = OneProcess("CUDA")  # begun, even without a context
_LIBRARY = "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"
_MAJOR, _MINOR = 75, 76  # CUdevice_attribute: the compute capability
_UPDATE = f"install NVIDIA's driver {DRIVER_NEEDED} or newer"


@dataclass(frozen=True)
class Gpu:
    """A graphics card, as reported by its driver."""

    name: str
    architecture: str  # "sm90"
    memory: int  # bytes


def driver_refusal() -> str | None:
    """The reason why CUDA cannot run on this machine, or None."""
    driver = _driver()
    if driver is None:
        return f"there is no NVIDIA driver on this machine ({_LIBRARY}): {_UPDATE}"
    if reason := _CUDA.refusal():
        return reason
    if status := _begun(driver):
        return f"the NVIDIA driver finds no usable GPU (CUDA error {status}): {_UPDATE}"
    return refusal_of(cuda_version(), len(gpus()))


def refusal_of(version: tuple[int, int], num_gpus: int) -> str | None:
    """The reason why this CUDA version and number of GPUs are not enough, or None."""
    if version < CUDA_NEEDED:
        return (
            f"the NVIDIA driver supports CUDA {_text(version)}, expected {_text(CUDA_NEEDED)} or "
            f"newer: {_UPDATE}"
        )
    return None if num_gpus else f"the NVIDIA driver finds no GPU: {_UPDATE}"


def cuda_version() -> tuple[int, int]:
    """The newest CUDA that the driver supports; (0, 0) without a driver."""
    driver, number = _driver(), ctypes.c_int()
    if driver is None or driver.cuDriverGetVersion(ctypes.byref(number)):
        return 0, 0
    return number.value // 1000, number.value % 1000 // 10


def gpus() -> tuple[Gpu, ...]:
    """The cards that this process may use; empty without a driver."""
    driver, count = _driver(), ctypes.c_int()
    if driver is None or _begun(driver) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return ()
    return tuple(_gpu(driver, index) for index in range(count.value))


def _begun(driver: Any) -> int:
    """The status of CUDA in this process."""
    _CUDA.use()
    status: int = driver.cuInit(0)
    return status


def memory_in_use() -> int | None:
    """Bytes in use by all processes on the GPUs that this process computes on; None if it computes
    on no GPU.
    """
    driver = _driver()
    used = [memory_in_use_on(driver, index) for index in range(len(gpus()))]
    return sum(filter(None, used)) or None


def free_gpu_memory() -> FreeMemory | None:
    """The free memory of the first GPU, which engines compute on; all of it as long as this process
    does not compute there. None without a GPU."""
    found = gpus()
    if not found:
        return None
    in_use = memory_in_use_on(_driver(), 0) or 0
    return FreeMemory(found[0].memory - in_use, "on the GPU")


def memory_in_use_on(driver: Any, index: int) -> int | None:
    """Bytes in use on one GPU, as reported by its driver; None if unknown."""
    device, flags, active = ctypes.c_int(), ctypes.c_uint(), ctypes.c_int()
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDevicePrimaryCtxGetState(device, ctypes.byref(flags), ctypes.byref(active))
    if not active.value:
        return None
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    driver.cuDevicePrimaryCtxRetain(ctypes.byref(context), device)
    driver.cuCtxPushCurrent_v2(context)
    failed = driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
    driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    driver.cuDevicePrimaryCtxRelease_v2(device)
    return None if failed else total.value - free.value


def _gpu(driver: Any, index: int) -> Gpu:
    device, memory = ctypes.c_int(), ctypes.c_size_t()
    major, minor = ctypes.c_int(), ctypes.c_int()
    name = ctypes.create_string_buffer(256)
    driver.cuDeviceGet(ctypes.byref(device), index)
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    driver.cuDeviceGetAttribute(ctypes.byref(major), _MAJOR, device)
    driver.cuDeviceGetAttribute(ctypes.byref(minor), _MINOR, device)
    return Gpu(name.value.decode(), f"sm{major.value}{minor.value}", memory.value)


@cache
def _driver() -> Any:
    try:
        return ctypes.CDLL(_LIBRARY)
    except OSError:
        return None


def _text(version: tuple[int, int]) -> str:
    return ".".join(map(str, version))
