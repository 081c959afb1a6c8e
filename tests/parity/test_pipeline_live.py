"""Whole pipelines against diffusers' StableDiffusionPipeline, on the same checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch

from parity.pipeline_harness import (
    BLURRY,
    CATS,
    CIRCLE,
    DIFFUSERS_WARNINGS,
    LONG,
    SEED,
    STAR,
    THEIR_SCHEDULERS,
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
    pipeline_with,
    pixels,
)
from recipes import TEXT_TO_IMAGE
from sdrt import Pipeline
from sdrt_engines import FunctionEngine, resolve_target
from support.manifest_edits import replace_recorded

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

CASES = [
    *(case(recipe, negative_prompt=BLURRY) for recipe in TEXT_TO_IMAGE),
    *(case("classic", name) for name in THEIR_SCHEDULERS),
    case("classic", "ddim", eta=0.6, num_images_per_prompt=2),
    case("classic", "tcd", eta=0.3),
    # batches
    case("classic", num_images_per_prompt=2, negative_prompt=BLURRY),
    case("deep", "euler_a", prompt=[CIRCLE, STAR], num_images_per_prompt=2),
    case("deep", prompt=[CIRCLE, STAR, CATS], negative_prompt=[BLURRY, "", UGLY]),
    # guidance
    *(case("classic", guidance_scale=scale, negative_prompt=UGLY) for scale in (0, 1, 1.5)),
    *(case("v_prediction", guidance_rescale=rescale) for rescale in (0.3, 1.0)),
    *(case("lcm", guidance_scale=scale, prompt=[CIRCLE, STAR]) for scale in (0.0, 1.0, 8.0)),
    # text
    *(case("deep", clip_skip=skip, negative_prompt=BLURRY) for skip in (1, 2, 4)),
    case("linear_projection", prompt=["", STAR], guidance_scale=1),  # nearly all padding: "!"
    # sizes
    case("classic", width=64, height=24),
    *(case("deep", width=width, height=height) for width, height in [(72, 104), (64, 8), (40, 72)]),
    # steps
    case("classic", num_inference_steps=1),
    case("classic", num_inference_steps=25),
    case("classic", "euler", timesteps=[999, 600, 300, 20], num_inference_steps=4),
    case("classic", "euler", sigmas=[14.0, 5.0, 1.0, 0.2, 0.0], num_inference_steps=4),
    case("classic", "ddpm", timesteps=[900, 500, 100], num_inference_steps=3),
    case("lcm", timesteps=[999, 499, 259, 19], num_inference_steps=4),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_image(case: Case, ours: Ours, theirs: Theirs) -> None:
    expected = generated_by_diffusers(theirs(case.recipe, case.scheduler), case)
    assert_same(generated_by_us(ours(case.recipe), case), expected)


def test_same_image_of_a_prompt_that_is_too_long(ours: Ours, theirs: Theirs) -> None:
    long = case("deep", prompt=LONG, negative_prompt=LONG[::-1])
    assert_same(generated_by_us(ours("deep"), long), generated_by_diffusers(theirs("deep"), long))


@pytest.mark.parametrize(
    "case",
    [
        *(case(recipe) for recipe in TEXT_TO_IMAGE),
        case("classic", "euler", num_images_per_prompt=3),
        case("deep", width=72, height=104, num_images_per_prompt=2),  # 468 values: not sixteens
    ],
    ids=str,
)
def test_same_initial_latents(case: Case, ours: Ours, theirs: Theirs) -> None:
    """The UNet's first sample, with a spread of about 1."""
    shown: list[np.ndarray] = []
    bundle = ours(case.recipe).bundle

    def unet(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shown.append(feeds["sample"].copy())
        return {"out_sample": feeds["sample"]}

    engine = FunctionEngine(bundle.component("unet").signature, unet)
    request = case.request | {"scheduler": case.scheduler, "guidance_scale": 1, "seed": SEED}
    next(Pipeline(bundle, resolve_target("cpu"), {"unet": engine}).stream(**request))
    pipe = theirs(case.recipe, case.scheduler)
    np.testing.assert_allclose(shown[0], their_first_sample(pipe, case), atol=1e-6)


def their_first_sample(pipe: Any, case: Case) -> np.ndarray:
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    pipe.scheduler.set_timesteps(case.request["num_inference_steps"])
    latents = pipe.prepare_latents(
        case.num_images,
        pipe.unet.config.in_channels,
        case.request.get("height", size),
        case.request.get("width", size),
        torch.float32,
        torch.device("cpu"),
        generators(case.num_images),
    )
    scaled = pipe.scheduler.scale_model_input(latents, pipe.scheduler.timesteps[0])
    return np.asarray(scaled)


@pytest.mark.parametrize(
    "old",
    [{"steps_offset": 0, "clip_sample": True}, {"beta_end": 0.012, "set_alpha_to_one": False}],
)
def test_old_schedules_are_corrected_alike(
    old: dict[str, Any], tiny_bundle: Callable[[str], Path], theirs: Theirs, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_bundle("classic"), tmp_path / "folder")
    config = {"_class_name": "DDIMScheduler", **old}
    path = "scheduler/scheduler_config.json"
    replace_recorded(folder, path, json.dumps(config).encode())
    drawn = generated_by_us(Pipeline.open(folder, "cpu", num_threads=1), case("classic"))
    pipe = pipeline_with(theirs("classic"), scheduler=diffusers.DDIMScheduler(**old))
    assert_same(drawn, generated_by_diffusers(pipe, case("classic")))


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "heun", "lcm", "ddpm", "euler_a"])
def test_same_previews(scheduler: str, ours: Ours, theirs: Theirs) -> None:
    """At every step, the decoded `pred_original_sample` of diffusers' scheduler."""
    request = case("classic", scheduler, prompt=[CIRCLE, STAR]).request
    expected: list[np.ndarray] = []
    pipe = theirs("classic", scheduler)
    step = pipe.scheduler.step

    @wraps(step)  # the pipeline inspects its parameters
    def noting_step(*args: Any, return_dict: bool = True, **keywords: Any) -> tuple[Any]:
        output = step(*args, **keywords)
        expected.append(decoded(pipe, prediction_in(output)))
        return (output.prev_sample,)

    pipe.scheduler.step = noting_step
    pipe(**request, generator=generators(2))
    steps = list(ours("classic").stream(**request, scheduler=scheduler, seed=SEED))
    assert len(steps) == len(expected)
    for step, images in zip(steps, expected, strict=True):
        assert_same_images(pixels(step.preview()), images)


def prediction_in(output: Any) -> torch.Tensor:
    """LCM calls it `denoised`."""
    return output.denoised if hasattr(output, "denoised") else output.pred_original_sample


def decoded(pipe: Any, latents: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        images = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pixels(pipe.image_processor.postprocess(images))


def test_a_cancelled_request_leaves_no_trace(ours: Ours, theirs: Theirs) -> None:
    for step in ours("deep").stream(CATS, seed=3, num_inference_steps=5):
        if step.index == 2:
            break
    again = case("deep")
    assert_same(generated_by_us(ours("deep"), again), generated_by_diffusers(theirs("deep"), again))
