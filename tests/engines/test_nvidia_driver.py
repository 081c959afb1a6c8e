from __future__ import annotations

import pytest

from sdrt_engines.nvidia_driver import refusal_of

UPDATE = "install NVIDIA's driver 580 or newer"


@pytest.mark.parametrize(
    ("version", "num_gpus", "reason"),
    [
        ((13, 0), 1, None),
        ((13, 2), 2, None),  # minor versions of CUDA go together
        ((14, 0), 1, None),
        ((12, 8), 1, f"the NVIDIA driver knows CUDA 12.8, needed is 13.0 or newer: {UPDATE}"),
        ((12, 8), 0, f"the NVIDIA driver knows CUDA 12.8, needed is 13.0 or newer: {UPDATE}"),
        ((13, 2), 0, f"the NVIDIA driver finds no GPU: {UPDATE}"),
    ],
)
def test_drivers(version: tuple[int, int], num_gpus: int, reason: str | None) -> None:
    assert refusal_of(version, num_gpus) == reason
