"""Stable Diffusion 2 against diffusers' pipelines, on the same checkpoints: v-prediction,
OpenCLIP's text encoder and its padding, linear projections, inpainting, ControlNet."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest

from parity.parity_images import mask, sample_image
from parity.pipeline_harness import (
    BLURRY,
    CATS,
    CIRCLE,
    DIFFUSERS_WARNINGS,
    LONG,
    STAR,
    UGLY,
    Case,
    Ours,
    Theirs,
    assert_same,
    case,
    generated_by_diffusers,
    generated_by_us,
)
from sdrt import Control

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

RECIPES = ("sd2_v", "sd2_base", "sd2_odd", "sd2_turbo")
SAMPLERS = ("ddim", "euler_a", "dpmpp_2m_karras", "unipc")
UNEQUAL: dict[str, Any] = {
    "prompt": [CIRCLE, "", "wow!! " + STAR],
    "negative_prompt": [BLURRY, UGLY, ""],
}
CASES = [
    *(case(recipe, **UNEQUAL, width=48, height=32) for recipe in RECIPES),
    *(
        case(recipe, sampler, negative_prompt=UGLY, width=32, height=56)
        for recipe in RECIPES
        for sampler in SAMPLERS
    ),
    case("sd2_v", guidance_rescale=0.7, prompt=[CIRCLE, LONG]),
    case("sd2_odd", clip_skip=1, negative_prompt=BLURRY, num_images_per_prompt=2),
    case("sd2_base", prompt=["", "!", "! ! cats!"], guidance_scale=1),  # nearly all padding: "!"
    case("sd2_turbo", guidance_scale=0.0, num_inference_steps=1, prompt=[CIRCLE, CATS]),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_image(case: Case, ours: Ours, theirs: Theirs) -> None:
    expected = generated_by_diffusers(theirs(case.recipe, case.scheduler), case)
    assert_same(generated_by_us(ours(case.recipe), case), expected)


@pytest.mark.parametrize("recipe", RECIPES)
def test_same_image_from_an_image(recipe: str, ours: Ours, theirs: Theirs) -> None:
    pipe = theirs(recipe, kind=diffusers.StableDiffusionImg2ImgPipeline)
    request = case(recipe, image=sample_image(48, 32), strength=0.7, negative_prompt=BLURRY)
    assert_same(generated_by_us(ours(recipe), request), generated_by_diffusers(pipe, request))


@pytest.mark.parametrize("recipe", ["sd2_inpaint", "sd2_v"])
def test_same_image_from_a_mask(recipe: str, ours: Ours, theirs: Theirs) -> None:
    """With 9 channels, and with 4."""
    pipe = theirs(recipe, kind=diffusers.StableDiffusionInpaintPipeline)
    images: dict[str, Any] = {
        "image": sample_image(48, 32),
        "mask_image": mask(48, 32),
        "strength": 0.8,
    }
    request = case(recipe, negative_prompt=BLURRY, width=48, height=32, **images)
    assert_same(generated_by_us(ours(recipe), request), generated_by_diffusers(pipe, request))


def test_same_image_with_a_controlnet(
    ours: Ours, theirs: Theirs, tiny_controlnets: Callable[[str], dict[str, Path]]
) -> None:
    net = diffusers.ControlNetModel.from_pretrained(tiny_controlnets("sd2_odd")["edges"])
    pipe = theirs("sd2_odd", kind=diffusers.StableDiffusionControlNetPipeline, controlnet=net)
    edges = sample_image(48, 32, seed=1)
    request = case("sd2_odd", prompt=[CIRCLE, STAR], width=48, height=32).together_with(
        {"control": {"edges": Control(edges)}}, {"image": [edges, edges]}
    )
    assert_same(generated_by_us(ours("sd2_odd"), request), generated_by_diffusers(pipe, request))
