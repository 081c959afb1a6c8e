from __future__ import annotations

import pytest

from sdrt_engines.cuda_device import driver_refusal


@pytest.mark.parametrize(
    ("num_devices", "driver", "runtime", "reason"),
    [
        (1, 13020, 13040, None),  # minor versions of CUDA go together
        (1, 14000, 13040, None),
        (0, 0, 13040, "there is no NVIDIA driver here: install one, or use target cpu"),
        (0, 12080, 13040, "the NVIDIA driver knows CUDA 12.8, expected 13.0 or newer: update"),
        (0, 13020, 13040, "the NVIDIA driver finds no GPU here: make one visible to it, or use"),
    ],
)
def test_drivers(num_devices: int, driver: int, runtime: int, reason: str | None) -> None:
    refusal = driver_refusal(num_devices, driver, runtime)
    assert refusal == reason or (refusal is not None and refusal.startswith(str(reason)))
