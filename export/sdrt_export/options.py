"""How weights are stored. What is computed with is float32 either way."""

from __future__ import annotations

from typing import Literal, TypeAlias

WeightType: TypeAlias = Literal["fp32", "fp16"]

# "fp16" rounds them; "auto" is float16 for networks of which that changes no weight: on a CPU a
# UNet then opens in three quarters of the time, and its steps take what they took (bench/).
WeightStorage: TypeAlias = Literal["auto", "fp32", "fp16"]
