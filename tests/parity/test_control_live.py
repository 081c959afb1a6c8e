"""ControlNet against diffusers: several nets, scales, windows, guess mode; images and masks."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers import (
    StableDiffusionControlNetImg2ImgPipeline,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
)

from parity.control_harness import Nets, assert_alike, controlled, depth, edges
from parity.parity_images import mask, sample_image
from parity.pipeline_harness import (
    BLURRY,
    CIRCLE,
    DIFFUSERS_WARNINGS,
    STAR,
    Case,
    Ours,
    Theirs,
)
from sdrt import Control

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

SCHEDULERS = ("euler", "ddim", "dpmpp_2m", "unipc", "pndm", "lcm", "heun", "euler_a")

TEXT_TO_IMAGE = [
    *(controlled(recipe) for recipe in ("classic", "v_prediction", "linear_projection", "deep")),
    *(controlled(recipe) for recipe in ("lcm", "sample_prediction", "wide_latents")),
    *(controlled("classic", scheduler) for scheduler in SCHEDULERS),
    controlled("classic", "euler", prompt=[CIRCLE, STAR], negative_prompt=[BLURRY, ""]),
    controlled("classic", "euler", num_images_per_prompt=2, guidance_scale=1.0),
    # sizes
    controlled("classic", None, ("edges", Control(sample_image(44, 24, seed=1)))),
    controlled("deep", None, ("edges", Control(sample_image(72, 104, seed=1)))),
    # scales and windows
    controlled("classic", "ddim", edges(0.3)),
    controlled("classic", "ddim", edges(1.7, end=0.6)),
    controlled("classic", "ddim", edges(start=0.4), num_inference_steps=7),
    controlled("classic", "heun", edges(start=0.2, end=0.7)),
    controlled("classic", "ddim", edges(0.0)),
    # several
    controlled("classic", "ddim", edges(), depth()),
    controlled("classic", "ddim", depth(0.4, end=0.5), edges(0.8, start=0.3)),
    controlled("deep", None, edges(0.5), depth(1.5), prompt=[CIRCLE, STAR]),
    controlled("classic", "ddim", depth()),
    # guess mode
    *(
        controlled("classic", "ddim", *nets, guess_mode=True, guidance_scale=scale)
        for nets in ([edges(0.7)], [edges(0.5, end=0.5), depth(0.8)])
        for scale in (1.0, 4.0)
    ),
]
WITH_IMAGE = [
    *(
        controlled("classic", scheduler, image=sample_image(32, 32), strength=strength)
        for scheduler in ("euler", "ddim", "unipc")
        for strength in (0.4, 0.75, 1.0)
    ),
    controlled(
        "classic", "ddim", edges(0.6, end=0.7), depth(), image=sample_image(32, 32), strength=0.8
    ),
    controlled(
        "classic", "ddim", edges(), guess_mode=True, image=sample_image(32, 32), strength=0.8
    ),
    controlled("deep", None, image=sample_image(32, 32), strength=0.6, num_images_per_prompt=2),
]
MASKED = {"image": sample_image(32, 32), "mask_image": mask(32, 32), "height": 32, "width": 32}
WITH_MASK = [
    *(
        controlled(recipe, scheduler, **MASKED, strength=strength)
        for recipe in ("classic", "inpaint")
        for scheduler in ("euler", "ddim", "dpmpp_2m")
        for strength in (0.4, 1.0)
    ),
    *(
        controlled(recipe, "ddim", edges(0.6, end=0.7), depth(), **MASKED)
        for recipe in ("classic", "inpaint")
    ),
]


@pytest.mark.parametrize("case", TEXT_TO_IMAGE, ids=str)
def test_text_to_image(case: Case, ours: Ours, theirs: Theirs, nets: Nets) -> None:
    assert_alike(case, StableDiffusionControlNetPipeline, ours, theirs, nets, correct_schedule)


@pytest.mark.parametrize("case", WITH_IMAGE, ids=str)
def test_image_to_image(case: Case, ours: Ours, theirs: Theirs, nets: Nets) -> None:
    assert_alike(
        case, StableDiffusionControlNetImg2ImgPipeline, ours, theirs, nets, correct_schedule
    )


@pytest.mark.parametrize("case", WITH_MASK, ids=str)
def test_inpainting(case: Case, ours: Ours, theirs: Theirs, nets: Nets) -> None:
    assert_alike(
        case, StableDiffusionControlNetInpaintPipeline, ours, theirs, nets, correct_schedule
    )


def correct_schedule(pipe: Any) -> None:
    """Corrects old schedules like StableDiffusionPipeline; diffusers' ControlNet pipelines do
    not."""
    corrected = {"clip_sample": False, "steps_offset": 1}
    known = {name: value for name, value in corrected.items() if name in pipe.scheduler.config}
    pipe.scheduler.register_to_config(**known)
