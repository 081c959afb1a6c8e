"""Image to image and inpainting against diffusers' pipelines."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from diffusers import StableDiffusionImg2ImgPipeline, StableDiffusionInpaintPipeline
from PIL import Image

from parity.parity_images import mask, sample_image
from parity.pipeline_harness import (
    BLURRY,
    CIRCLE,
    DIFFUSERS_WARNINGS,
    STAR,
    Case,
    Ours,
    Theirs,
    assert_same,
    assert_same_images,
    case,
    generated_by_diffusers,
    generated_by_us,
    generators,
    pixels,
)
from recipes import RECIPES
from sdrt.images.framing import fitted
from sdrt.images.masks import WHITE, crop_box
from sdrt.parameters import Resize

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

SCHEDULERS = (
    "euler",
    "ddim",
    "dpmpp_2m",
    "unipc",
    "pndm",
    "lcm",
    "heun",
    "euler_a",
    "dpmpp_2m_sde",
)
STRENGTHS = (0.2, 0.75, 1.0)
SIGMAS = (14.615, 11.0, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.0)  # 10 steps
CUSTOM_STRENGTHS = (0.1, 0.3, 0.5, 0.75, 1.0)
BLENDING = [name for name in RECIPES if name not in ("inpaint", "wide_latents")]


def image_to_image(recipe: str, scheduler: str | None = None, **options: Any) -> Case:
    # so many steps that a strength of 0.2 leaves two
    options = {"num_inference_steps": 10, "image": sample_image(32, 32)} | options
    return case(recipe, scheduler, **options)


def inpainting(recipe: str, scheduler: str | None = None, **options: Any) -> Case:
    """diffusers uses the model's size by default, sdrt the image's."""
    width, height = options.pop("size", (32, 32))
    images = {"image": sample_image(width, height), "mask_image": mask(width, height)}
    sizes = {"width": width, "height": height}
    return image_to_image(recipe, scheduler, **(images | sizes | options))


IMAGE_TO_IMAGE = [
    *(image_to_image(name) for name in RECIPES if name not in ("inpaint", "wide_latents")),
    *(
        image_to_image("classic", name, strength=strength)
        for name in SCHEDULERS
        for strength in STRENGTHS
    ),
    image_to_image("classic", strength=0.5, num_images_per_prompt=2, negative_prompt=BLURRY),
    image_to_image("classic", "euler_a", strength=0.5, prompt=[CIRCLE, STAR]),
    image_to_image("classic", strength=0.5, guidance_scale=1.0),
    image_to_image("classic", "euler", strength=0.61, num_inference_steps=7),
    image_to_image("classic", "euler", strength=0.5, timesteps=[999, 700, 400, 100]),
    *(
        image_to_image("classic", "euler", strength=strength, sigmas=list(SIGMAS))
        for strength in CUSTOM_STRENGTHS
    ),
    # diffusers counts 2n - 1 steps for n timesteps of Heun: other strengths start elsewhere
    image_to_image("classic", "heun", strength=1.0, timesteps=[999, 700, 400, 100]),
    # sizes: the image's own, cut to whole latents, which are of 2 pixels here
    image_to_image("classic", image=sample_image(44, 24)),
    image_to_image("deep", image=sample_image(45, 67)),  # 8 pixels
    image_to_image("v_prediction", image=sample_image(33, 50)),  # 4 pixels
]
INPAINTING = [
    *(inpainting(recipe) for recipe in BLENDING),
    *(
        inpainting(recipe, name, strength=strength)
        for recipe in ("classic", "inpaint")
        for name in SCHEDULERS
        for strength in STRENGTHS
    ),
    *(
        inpainting("classic", "euler", strength=strength, sigmas=list(SIGMAS))
        for strength in CUSTOM_STRENGTHS
    ),
    *(inpainting(recipe, size=(44, 24)) for recipe in ("classic", "inpaint")),
    *(inpainting(recipe, guidance_scale=1.0) for recipe in ("classic", "inpaint")),
    *(inpainting(recipe, mask_image=mask(32, 32, soft=True)) for recipe in ("classic", "inpaint")),
    inpainting("classic", mask_image=Image.new("L", (32, 32), 255)),
    inpainting("classic", "ddim", mask_image=Image.new("L", (32, 32), 0)),
    inpainting("inpaint", mask_image=Image.new("L", (32, 32), 255)),
]


@pytest.mark.parametrize("case", IMAGE_TO_IMAGE, ids=str)
def test_image_to_image(case: Case, ours: Ours, theirs: Theirs) -> None:
    pipe = theirs(case.recipe, case.scheduler, StableDiffusionImg2ImgPipeline)
    assert_same(generated_by_us(ours(case.recipe), case), generated_by_diffusers(pipe, case))


def inpaint_pipeline(theirs: Theirs, case: Case) -> Any:
    """diffusers' inpainting, unlike its other pipelines, keeps an old schedule's clip_sample."""
    pipe = theirs(case.recipe, case.scheduler, StableDiffusionInpaintPipeline)
    if "clip_sample" in pipe.scheduler.config:
        pipe.scheduler.register_to_config(clip_sample=False)
    return pipe


@pytest.mark.parametrize("case", INPAINTING, ids=str)
def test_inpainting(case: Case, ours: Ours, theirs: Theirs) -> None:
    pipe = inpaint_pipeline(theirs, case)
    assert_same(generated_by_us(ours(case.recipe), case), generated_by_diffusers(pipe, case))


@pytest.mark.parametrize("recipe", ["classic", "inpaint"])
@pytest.mark.parametrize("scheduler", ["ddim", "euler_a"])
def test_inpainting_of_a_batch(recipe: str, scheduler: str, ours: Ours, theirs: Theirs) -> None:
    """diffusers reads each image's own random stream if it is given as many images."""
    one = inpainting(recipe, scheduler, prompt=[CIRCLE, STAR], strength=0.7)
    two = {name: [one.request[name]] * 2 for name in ("image", "mask_image")}
    pipe = inpaint_pipeline(theirs, one)
    theirs_generated = generated_by_diffusers(pipe, case(recipe, scheduler, **(one.request | two)))
    assert_same(generated_by_us(ours(recipe), one), theirs_generated)


@pytest.mark.parametrize("recipe", ["classic", "inpaint"])
@pytest.mark.parametrize("padding", [0, 5, 16])
@pytest.mark.parametrize("soft", [False, True])
@pytest.mark.parametrize("size", [(96, 80), (70, 120)])
def test_padding_mask_crop(
    recipe: str,
    padding: int,
    soft: bool,
    size: tuple[int, int],
    ours: Ours,
    theirs: Theirs,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """diffusers' box holds all that is not black, ours only what is generated. They differ for a
    soft mask: there diffusers takes its box around the white, too, and all else is the same."""
    options: dict[str, Any] = {
        "prompt": CIRCLE,
        "num_inference_steps": 4,
        "image": sample_image(*size),
        "mask_image": mask(*size, soft=soft),
        "padding_mask_crop": padding,
    }
    result = ours(recipe)(**options, seed=11)
    pipe = theirs(recipe, kind=StableDiffusionInpaintPipeline)
    box_of = pipe.mask_processor.get_crop_region

    def box_of_white(drawn: Image.Image, *size: int, pad: int) -> Any:
        return box_of(drawn.point(lambda grey: 255 * (grey >= WHITE)), *size, pad=pad)

    if soft:
        monkeypatch.setattr(pipe.mask_processor, "get_crop_region", box_of_white)
    expected = pipe(**options, generator=generators(1)).images
    assert result.images[0].size == size
    model_size = result.request.width or 0, result.request.height or 0
    left, top, right, bottom = crop_box(options["mask_image"], model_size, padding)
    inside = np.s_[:, top:bottom, left:right]  # outside, diffusers blends grey with black
    assert_same_images(pixels(result.images)[inside], pixels(expected)[inside])
    kept = np.asarray(options["mask_image"]) == 0
    kept[:top], kept[bottom:], kept[:, :left], kept[:, right:] = True, True, True, True
    np.testing.assert_array_equal(
        np.asarray(result.images[0])[kept], np.asarray(options["image"])[kept]
    )


@pytest.mark.parametrize("resize", ["crop", "pad", "stretch"])
@pytest.mark.parametrize("source", [(33, 48), (120, 50), (50, 121), (64, 64)])
@pytest.mark.parametrize("size", [(64, 64), (96, 40), (32, 56)])
def test_same_resizing(
    resize: Resize, source: tuple[int, int], size: tuple[int, int], theirs: Theirs
) -> None:
    processor = theirs("classic").image_processor
    mode = {"crop": "crop", "pad": "fill", "stretch": "default"}[resize]
    expected = processor.resize(sample_image(*source), size[1], size[0], resize_mode=mode)
    np.testing.assert_array_equal(fitted(sample_image(*source), size, resize), expected)
