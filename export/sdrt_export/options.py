"""What an export and a build are told: how weights are stored, and who hears of each stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

Report: TypeAlias = Callable[[str], None]  # is told each stage

# How weights are stored; what is computed with is float32 either way.
WeightType: TypeAlias = Literal["fp32", "fp16"]

# "fp16" rounds them; "auto" is float16 for networks of which that changes no weight: on a CPU a
# UNet then opens in three quarters of the time, and its steps take what they took (bench/).
WeightStorage: TypeAlias = Literal["auto", "fp32", "fp16"]
