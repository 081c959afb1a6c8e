from __future__ import annotations

from typing import Any

import pytest

from sdrt_engines.nvidia_driver import gpus, memory_in_use, memory_in_use_on, refusal_of

UPDATE = "install NVIDIA's driver 580 or newer"


@pytest.mark.parametrize(
    ("version", "num_gpus", "reason"),
    [
        ((13, 0), 1, None),
        ((13, 2), 2, None),  # minor versions of CUDA go together
        ((14, 0), 1, None),
        ((12, 8), 1, f"the NVIDIA driver supports CUDA 12.8, expected 13.0 or newer: {UPDATE}"),
        ((12, 8), 0, f"the NVIDIA driver supports CUDA 12.8, expected 13.0 or newer: {UPDATE}"),
        ((13, 2), 0, f"the NVIDIA driver finds no GPU: {UPDATE}"),
    ],
)
def test_drivers(version: tuple[int, int], num_gpus: int, reason: str | None) -> None:
    assert refusal_of(version, num_gpus) == reason


class SimulatedDriver:
    """One GPU of 1000 bytes; functions write through the pointers that they are given.

    `contexts` counts contexts that were retained and not yet released.
    """

    def __init__(self, free: int, active: bool, status: int = 0) -> None:
        self.free, self.active, self.status = free, active, status
        self.contexts: list[str] = []

    def cuDeviceGet(self, device: Any, index: int) -> int:  # noqa: N802
        return 0

    def cuDevicePrimaryCtxGetState(self, device: Any, flags: Any, active: Any) -> int:  # noqa: N802
        active._obj.value = int(self.active)
        return 0

    def cuDevicePrimaryCtxRetain(self, context: Any, device: Any) -> int:  # noqa: N802
        self.contexts.append("retained")
        return 0

    def cuCtxPushCurrent_v2(self, context: Any) -> int:  # noqa: N802
        self.contexts.append("pushed")
        return 0

    def cuMemGetInfo_v2(self, free: Any, total: Any) -> int:  # noqa: N802
        assert self.contexts == ["retained", "pushed"]
        free._obj.value, total._obj.value = self.free, 1000
        return self.status

    def cuCtxPopCurrent_v2(self, context: Any) -> int:  # noqa: N802
        self.contexts.remove("pushed")
        return 0

    def cuDevicePrimaryCtxRelease_v2(self, device: Any) -> int:  # noqa: N802
        self.contexts.remove("retained")
        return 0


@pytest.mark.parametrize(
    ("driver", "used"),
    [
        (SimulatedDriver(free=300, active=True), 700),
        (SimulatedDriver(free=300, active=False), None),  # this process does not compute there
        (SimulatedDriver(free=300, active=True, status=1), None),
    ],
)
def test_memory_in_use(driver: SimulatedDriver, used: int | None) -> None:
    assert memory_in_use_on(driver, 0) == used
    assert driver.contexts == []


def test_without_a_gpu_memory_in_use_is_unknown() -> None:
    if gpus():
        pytest.skip("this machine has a GPU")
    assert memory_in_use() is None
