"""Stable Diffusion XL with ControlNets against diffusers' pipelines, on tiny checkpoints."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import (
    StableDiffusionXLControlNetImg2ImgPipeline,
    StableDiffusionXLControlNetInpaintPipeline,
    StableDiffusionXLControlNetPipeline,
)

from parity.control_harness import Nets, assert_alike, controlled, depth, edges
from parity.parity_images import mask, sample_image
from parity.pipeline_harness import CATS, DIFFUSERS_WARNINGS, STAR, Case, Ours, Theirs
from parity.sdxl_cases import NEGATIVE_SIZES, SAMPLED, SCHEDULERS, SIZES, TWO, also_full

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

CONTROLLED = [
    *(controlled(recipe) for recipe in ("xl", "xl_deep", "xl_odd", "xl_lcm")),
    controlled("xl", "ddim", edges(0.6, end=0.7), depth(start=0.3), **TWO),
    controlled("xl", "heun", edges(start=0.2, end=0.7), **SIZES, **NEGATIVE_SIZES),
    *(
        controlled("xl", "ddim", edges(0.7), depth(0.8), guess_mode=True, guidance_scale=scale)
        for scale in (1.0, 4.0)
    ),
    controlled("xl_deep", None, edges(), guess_mode=True, prompt_2=[STAR, CATS], **SIZES, **TWO),
    *also_full(
        controlled(recipe, name, edges(0.8), depth(1.2, start=0.4), **TWO)
        for recipe, name in SAMPLED
    ),
]
# diffusers' defaults differ from those without a ControlNet
OPEN: dict[str, Any] = {"guidance_scale": 5.0, "strength": 0.7, "image": sample_image(32, 32)}
CONTROLLED_IMAGES = [
    controlled("xl", None, **OPEN),
    controlled("xl_odd", None, edges(), depth(end=0.5), **OPEN, **TWO),
    controlled("xl", "ddim", guess_mode=True, **OPEN, **SIZES, **NEGATIVE_SIZES),
    *also_full(controlled("xl_deep", name, **OPEN, **TWO) for name in SCHEDULERS),
]
MASKED = OPEN | {"mask_image": mask(32, 32), "height": 32, "width": 32}
CONTROLLED_MASKS = [
    *(controlled(recipe, None, edges(0.6), **MASKED) for recipe in ("xl", "xl_inpaint")),
    controlled("xl", "ddim", edges(0.6, end=0.7), depth(), **MASKED | {"strength": 1.0}),
    *also_full(
        controlled(recipe, name, **MASKED) for recipe in ("xl", "xl_inpaint") for name in SCHEDULERS
    ),
]


@pytest.mark.parametrize("case", CONTROLLED, ids=str)
def test_control(case: Case, ours: Ours, theirs: Theirs, nets: Nets) -> None:
    assert_alike(case, StableDiffusionXLControlNetPipeline, ours, theirs, nets)


@pytest.mark.parametrize("case", CONTROLLED_IMAGES, ids=str)
def test_control_of_an_image(case: Case, ours: Ours, theirs: Theirs, nets: Nets) -> None:
    assert_alike(case, StableDiffusionXLControlNetImg2ImgPipeline, ours, theirs, nets)


@pytest.mark.parametrize("case", CONTROLLED_MASKS, ids=str)
def test_control_of_inpainting(case: Case, ours: Ours, theirs: Theirs, nets: Nets) -> None:
    assert_alike(case, StableDiffusionXLControlNetInpaintPipeline, ours, theirs, nets)
