"""A base model and its refiner against two of diffusers' pipelines, cut at `denoising_end` and
`denoising_start`.

Both pipelines of diffusers draw from the same generators, so the refiner's noise continues where
the base's ended: sdrt's convention. diffusers leaves this open.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
    StableDiffusionXLPipeline,
)

from parity.parity_images import mask, sample_image
from parity.pipeline_harness import (
    BLURRY,
    CIRCLE,
    DIFFUSERS_WARNINGS,
    SEED,
    STAR,
    THEIR_SCHEDULERS,
    Drawn,
    Ours,
    Theirs,
    assert_same,
    assert_same_images,
    assert_same_latents,
    case,
    generated_by_diffusers,
    generated_by_us,
    generators,
    pixels,
)
from sdrt import Pipeline

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

Refined: TypeAlias = Callable[[str, str], Pipeline]  # the recipes of base and refiner

SIZE: dict[str, Any] = {"width": 48, "height": 32}
BATCH: dict[str, Any] = {"prompt": [CIRCLE, STAR], "negative_prompt": [BLURRY, CIRCLE]}
IMAGES: dict[str, Any] = {"image": sample_image(48, 32)}
MASKED: dict[str, Any] = {**IMAGES, "mask_image": mask(48, 32)}


@pytest.fixture(scope="module")
def refined(tiny_bundle: Callable[[str], Path]) -> Refined:
    return cache(
        lambda base, refiner: Pipeline.open(
            tiny_bundle(base), "cpu", num_threads=1, refiner=tiny_bundle(refiner)
        )
    )


def drawn_by_diffusers(
    theirs: Theirs, recipes: tuple[str, str], scheduler: str | None, share: float, **request: Any
) -> Drawn:
    base_kind, refiner_kind = StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline
    if "mask_image" in request:
        base_kind = refiner_kind = StableDiffusionXLInpaintPipeline
    elif "image" in request:
        base_kind = StableDiffusionXLImg2ImgPipeline
    timesteps: list[float] = []
    latents: list[np.ndarray] = []

    def note(pipe: object, index: int, t: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        timesteps.append(float(t))
        latents.append(tensors["latents"].numpy())
        return tensors

    prompt = request["prompt"]
    common: dict[str, Any] = {
        "generator": generators(1 if isinstance(prompt, str) else len(prompt)),
        "callback_on_step_end": note,
    }
    request = {"num_inference_steps": 10} | request
    if base_kind is StableDiffusionXLImg2ImgPipeline:
        request = {name: request[name] for name in request if name not in SIZE}
    base = theirs(recipes[0], scheduler, base_kind)
    halfway = base(**request, **common, denoising_end=share, output_type="latent").images
    if refiner_kind is StableDiffusionXLImg2ImgPipeline:
        request = {name: request[name] for name in request if name not in SIZE}
    request = {name: request[name] for name in request if name != "strength"}
    refiner = theirs(recipes[1], scheduler, refiner_kind)
    images = refiner(**request | {"image": halfway}, **common, denoising_start=share).images
    return Drawn(timesteps, latents, pixels(images))


def drawn_by_us(pipe: Pipeline, scheduler: str | None, share: float, **request: Any) -> Drawn:
    request = {"num_inference_steps": 10} | request
    stream = pipe.stream(**request, scheduler=scheduler, refiner_start=share, seed=SEED)
    steps = list(stream)
    return Drawn(
        [step.timestep for step in steps],
        [step.latents for step in steps],
        pixels(stream.result.images),
    )


def check(
    refined: Refined,
    theirs: Theirs,
    scheduler: str | None,
    share: float,
    recipes: tuple[str, str] = ("xl", "refiner"),
    **request: Any,
) -> None:
    request = {"prompt": CIRCLE} | SIZE | request
    expected = drawn_by_diffusers(theirs, recipes, scheduler, share, **request)
    drawn = drawn_by_us(refined(*recipes), scheduler, share, **request)
    np.testing.assert_allclose(drawn.timesteps, expected.timesteps, rtol=0, atol=1e-4)
    assert_same_latents(drawn.latents[-1], expected.latents[-1])
    assert_same_images(drawn.images, expected.images)


@pytest.mark.parametrize("share", [0.8, 0.45])
@pytest.mark.parametrize("scheduler", [None, "heun", "euler_a", "dpmpp_2m"])
def test_a_batch(scheduler: str | None, share: float, refined: Refined, theirs: Theirs) -> None:
    check(refined, theirs, scheduler, share, **BATCH)


def test_without_a_negative_prompt(refined: Refined, theirs: Theirs) -> None:
    """Zeros for the base, the encoded empty text for the refiner."""
    check(refined, theirs, None, 0.6)


def test_without_guidance(refined: Refined, theirs: Theirs) -> None:
    check(refined, theirs, None, 0.6, guidance_scale=1.0)


@pytest.mark.full
@pytest.mark.parametrize(
    ("base", "refiner", "scheduler"),
    [("xl", "refiner_zeros", "euler"), ("xl_deep", "refiner_deep", None)],
)
def test_other_refiners(
    base: str, refiner: str, scheduler: str | None, refined: Refined, theirs: Theirs
) -> None:
    check(refined, theirs, scheduler, 0.7, (base, refiner))


def test_image_to_image(refined: Refined, theirs: Theirs) -> None:
    check(refined, theirs, "euler_a", 0.8, **IMAGES, strength=0.6, num_inference_steps=20)


@pytest.mark.parametrize("recipe", ["xl", pytest.param("xl_inpaint", marks=pytest.mark.full)])
def test_inpainting(recipe: str, refined: Refined, theirs: Theirs) -> None:
    """As in diffusers' documentation: the refiner gets the mask, too."""
    check(refined, theirs, "euler_a", 0.7, (recipe, "refiner"), **MASKED, strength=0.85)


@pytest.mark.parametrize("scheduler", [None, "euler_a"])
def test_a_refiner_by_itself(scheduler: str | None, ours: Ours, theirs: Theirs) -> None:
    """Image to image with a refiner's bundle."""
    request: dict[str, Any] = {"num_inference_steps": 20, "strength": 0.3, **IMAGES}
    alone = case(
        "refiner", scheduler, prompt=[CIRCLE, STAR], negative_prompt=[BLURRY, ""], **request
    )
    expected = generated_by_diffusers(theirs("refiner", scheduler), alone)
    assert_same(generated_by_us(ours("refiner"), alone), expected)


# --- every scheduler, cut anywhere

# PNDM begins with Runge-Kutta steps here, which need the start of its schedule.
SCHEDULERS = [name for name in THEIR_SCHEDULERS if name != "pndm"]


@pytest.mark.full
@pytest.mark.parametrize("share", [0.15, 0.3, 0.55, 0.8, 0.89])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_every_scheduler(scheduler: str, share: float, refined: Refined, theirs: Theirs) -> None:
    """Without guidance: random weights multiply the differences of rounding with it."""
    check(refined, theirs, scheduler, share, guidance_scale=1.0)
