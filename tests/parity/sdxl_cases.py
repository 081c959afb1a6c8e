"""Cases for the tests of SDXL."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from parity.pipeline_harness import BLURRY, CIRCLE, STAR, Case

RECIPES = ("xl", "xl_deep", "xl_odd", "xl_turbo", "xl_lcm")
SCHEDULERS = ("euler_a", "ddim", "dpmpp_2m", "heun")
# diffusers' Heun ignores that a model rescales its betas ("xl_odd"); we note that we do not.
SAMPLED = [
    (recipe, "unipc" if (recipe, name) == ("xl_odd", "heun") else name)
    for recipe in RECIPES
    for name in SCHEDULERS
]
WIDE: dict[str, Any] = {"width": 48, "height": 24}
HIGH: dict[str, Any] = {"width": 24, "height": 40}
TWO: dict[str, Any] = {"prompt": [CIRCLE, STAR], "negative_prompt": [BLURRY, ""]}
SIZES: dict[str, Any] = {
    "original_size": (20, 700),
    "crops_coords_top_left": (30, 4),
    "target_size": (400, 900),
}
NEGATIVE_SIZES: dict[str, Any] = {
    "negative_original_size": (512, 8),
    "negative_crops_coords_top_left": (99, 1),
    "negative_target_size": (1024, 77),
}


def also_full(cases: Iterable[Case]) -> list[Any]:
    """The cases, those of `make test-full` only."""
    return [pytest.param(each, marks=pytest.mark.full) for each in cases]
