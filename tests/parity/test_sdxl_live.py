"""Stable Diffusion XL against diffusers' pipelines for it, on the same tiny checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)

from parity.parity_images import mask, sample_image
from parity.pipeline_harness import (
    BLURRY,
    CATS,
    CIRCLE,
    DIFFUSERS_WARNINGS,
    LONG,
    SEED,
    STAR,
    UGLY,
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
from parity.sdxl_cases import (
    HIGH,
    NEGATIVE_SIZES,
    RECIPES,
    SAMPLED,
    SCHEDULERS,
    SIZES,
    TWO,
    WIDE,
    also_full,
)

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

TEXT_TO_IMAGE = [
    *(case(recipe) for recipe in RECIPES),
    *(case(recipe, name, **WIDE) for recipe, name in SAMPLED if recipe in ("xl", "xl_odd")),
    *also_full(
        case(recipe, name, **TWO, **size) for recipe, name in SAMPLED for size in (WIDE, HIGH)
    ),
    # batches
    case("xl_deep", **TWO, **WIDE),
    case("xl", "euler_a", prompt=[CIRCLE, STAR, CATS], num_images_per_prompt=2, **HIGH),
    # negative prompts: not given, empty, given, of models that take zeros and of those that do not
    *(case(recipe, negative_prompt=text) for recipe in ("xl", "xl_deep") for text in ("", BLURRY)),
    # two prompts
    case("xl", prompt_2=STAR),
    case("xl", prompt_2="", negative_prompt=BLURRY, negative_prompt_2=""),
    case("xl", prompt=[CIRCLE, STAR], prompt_2=[STAR, LONG], num_images_per_prompt=2),
    case("xl_odd", prompt_2=CATS, negative_prompt=[BLURRY], negative_prompt_2=[UGLY]),
    case("xl", negative_prompt_2=BLURRY),
    case("xl_deep", negative_prompt_2=BLURRY),
    # guidance
    *(case("xl", guidance_scale=scale, negative_prompt=UGLY) for scale in (0, 1, 1.5)),
    case("xl_odd", guidance_rescale=0.7, **TWO),
    *(case("xl_lcm", guidance_scale=scale, prompt=[CIRCLE, STAR]) for scale in (0.0, 8.0)),
    case("xl_turbo", guidance_scale=0.0, num_inference_steps=1),
    # layers
    *(case("xl_deep", clip_skip=skip, negative_prompt=BLURRY) for skip in (0, 1, 2)),
    case("xl", clip_skip=1, prompt_2=STAR),
    # sizes
    case("xl", **SIZES),
    case("xl", **NEGATIVE_SIZES),
    case("xl", **SIZES, **TWO, **WIDE),
    case("xl", **SIZES, **NEGATIVE_SIZES, negative_prompt=BLURRY, **WIDE),
    *(case("xl", **SIZES, **{name: NEGATIVE_SIZES[name]}) for name in NEGATIVE_SIZES),
    # steps
    case("xl", timesteps=[999, 600, 300, 20], num_inference_steps=4),
    case("xl", sigmas=[14.0, 5.0, 1.0, 0.2, 0.0], num_inference_steps=4),
    case("xl_lcm", timesteps=[999, 499, 259, 19], num_inference_steps=4),
]


def image_to_image(recipe: str, scheduler: str | None = None, **options: Any) -> Case:
    return case(
        recipe, scheduler, **{"num_inference_steps": 10, "image": sample_image(32, 32)} | options
    )


IMAGE_TO_IMAGE = [
    *(image_to_image(recipe) for recipe in RECIPES),  # at their own strength
    *(image_to_image("xl", name, strength=0.75, image=sample_image(48, 24)) for name in SCHEDULERS),
    *also_full(
        image_to_image(recipe, name, strength=strength, image=sample_image(*size), **TWO)
        for recipe, name in SAMPLED
        for strength in (0.4, 1.0)
        for size in ((48, 24), (24, 40))
    ),
    image_to_image("xl_odd", strength=0.6, num_images_per_prompt=2, **TWO),
    image_to_image("xl_deep", strength=0.6, prompt_2=STAR, clip_skip=1),
    *(
        image_to_image("xl", strength=0.5, **SIZES, **{name: NEGATIVE_SIZES[name]})
        for name in NEGATIVE_SIZES
    ),
    image_to_image("xl", strength=0.5, timesteps=[999, 700, 400, 100]),
]


def inpainting(recipe: str, scheduler: str | None = None, **options: Any) -> Case:
    """diffusers uses the model's size by default, sdrt the image's."""
    width, height = options.pop("size", (32, 32))
    images = {"image": sample_image(width, height), "mask_image": mask(width, height)}
    sizes = {"width": width, "height": height}
    return image_to_image(recipe, scheduler, **(images | sizes | options))


INPAINTING = [
    *(inpainting(recipe) for recipe in ("xl", "xl_deep", "xl_turbo", "xl_lcm", "xl_inpaint")),
    *(
        inpainting(recipe, name, strength=strength, size=(48, 24))
        for recipe in ("xl", "xl_inpaint")
        for name, strength in zip(SCHEDULERS, (1.0, 0.5, 0.9999, 0.7), strict=True)
    ),
    # Ten steps of DDIM, which clips, amplify the rounding of these models beyond the tolerance: by
    # more if diffusers' own UNet changes by 1e-6.
    *also_full(
        inpainting(recipe, name, strength=strength, size=size, num_inference_steps=num_steps)
        for recipe in ("xl", "xl_deep", "xl_turbo", "xl_lcm", "xl_inpaint")
        for name in SCHEDULERS
        for strength, num_steps in ((0.4, 10), (0.9999, 5), (1.0, 5))
        for size in ((48, 24), (24, 40))
    ),
    *(
        inpainting(recipe, **SIZES, **NEGATIVE_SIZES, prompt_2=STAR, negative_prompt=BLURRY)
        for recipe in ("xl", "xl_inpaint")
    ),
]


@pytest.mark.parametrize("case", TEXT_TO_IMAGE, ids=str)
def test_text_to_image(case: Case, ours: Ours, theirs: Theirs) -> None:
    expected = generated_by_diffusers(theirs(case.recipe, case.scheduler), case)
    assert_same(generated_by_us(ours(case.recipe), case), expected)


def test_negative_sizes_in_a_batch(ours: Ours, theirs: Theirs) -> None:
    """In a batch diffusers gives sizes to rows in another order than prompts, so that they mix:
    here each image is that of its own request."""
    sizes = SIZES | NEGATIVE_SIZES
    together = ours("xl")(num_inference_steps=5, seed=SEED, **TWO, **sizes)
    for i, pair in enumerate(zip(TWO["prompt"], TWO["negative_prompt"], strict=True)):
        prompt, negative = pair
        expected = theirs("xl")(
            prompt,
            negative_prompt=negative,
            num_inference_steps=5,
            generator=torch.Generator().manual_seed(SEED + i),
            **sizes,
        )
        assert_same_images(pixels(together.images[i : i + 1]), pixels(expected.images))


@pytest.mark.parametrize("case", IMAGE_TO_IMAGE, ids=str)
def test_image_to_image(case: Case, ours: Ours, theirs: Theirs) -> None:
    pipe = theirs(case.recipe, case.scheduler, StableDiffusionXLImg2ImgPipeline)
    assert_same(generated_by_us(ours(case.recipe), case), generated_by_diffusers(pipe, case))


@pytest.mark.parametrize("case", INPAINTING, ids=str)
def test_inpainting(case: Case, ours: Ours, theirs: Theirs) -> None:
    pipe = theirs(case.recipe, case.scheduler, StableDiffusionXLInpaintPipeline)
    assert_same(generated_by_us(ours(case.recipe), case), generated_by_diffusers(pipe, case))


@pytest.mark.parametrize("recipe", ["xl", "xl_inpaint"])
def test_inpainting_of_a_batch(recipe: str, ours: Ours, theirs: Theirs) -> None:
    """diffusers reads each image's own random stream if it is given as many images."""
    one = inpainting(recipe, "euler_a", strength=0.7, **TWO)
    two = {name: [one.request[name]] * 2 for name in ("image", "mask_image")}
    pipe = theirs(recipe, "euler_a", StableDiffusionXLInpaintPipeline)
    expected = generated_by_diffusers(pipe, case(recipe, "euler_a", **(one.request | two)))
    assert_same(generated_by_us(ours(recipe), one), expected)


class Normalizing(StableDiffusionXLInpaintPipeline):
    """Inpainting with latents as image to image scales them: diffusers' own leaves out their means
    and spreads, with which it decodes them."""

    def _encode_vae_image(self, image: torch.Tensor, generator: Any) -> Any:
        latents = super()._encode_vae_image(image, generator)
        config = self.vae.config
        mean, std = (
            torch.tensor(values).view(1, -1, 1, 1)
            for values in (config.latents_mean, config.latents_std)
        )
        return (latents - mean * config.scaling_factor) / std


def test_inpainting_keeps_the_image_whatever_the_latents_statistics(
    ours: Ours, theirs: Theirs
) -> None:
    case = inpainting("xl_odd", strength=0.7, size=(48, 24))
    pipe = theirs("xl_odd", kind=Normalizing)
    assert_same(generated_by_us(ours("xl_odd"), case), generated_by_diffusers(pipe, case))
    stream = ours("xl_odd").stream(**case.request)
    list(stream)
    assert [note.code for note in stream.result.notes] == ["latents_differ"]


@pytest.mark.parametrize("recipe", ["xl", "xl_inpaint"])
def test_padding_mask_crop(recipe: str, ours: Ours, theirs: Theirs) -> None:
    size = (96, 80)
    options: dict[str, Any] = {
        "prompt": CIRCLE,
        "num_inference_steps": 4,
        "image": sample_image(*size),
        "mask_image": mask(*size),
        "padding_mask_crop": 5,
    }
    result = ours(recipe)(**options, seed=SEED)
    pipe = theirs(recipe, kind=StableDiffusionXLInpaintPipeline)
    expected = pipe(**options, generator=generators(1)).images
    inside = np.s_[:, 30:50, 30:66]  # elsewhere diffusers blends grey with black
    assert_same_images(pixels(result.images)[inside], pixels(expected)[inside])
