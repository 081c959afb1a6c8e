"""Options of exports and builds: how weights are stored, and the function that reports stages."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

Report: TypeAlias = Callable[[str], None]  # called at each stage

# How weights are stored; computation is in float32 either way.
WeightType: TypeAlias = Literal["fp32", "fp16"]

# "fp16" rounds them; "auto" is float16 for networks whose weights it does not change. On a CPU, a
# UNet then opens in 75 % of the time, and a step takes as long as before (bench/).
WeightStorage: TypeAlias = Literal["auto", "fp32", "fp16"]
