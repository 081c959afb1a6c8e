"""The built-in demo bundle against diffusers on the checkpoint that it was exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    ControlNetModel,
    StableDiffusionControlNetInpaintPipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)
from PIL import Image, ImageDraw

import sdrt_export
from sdrt import Control, Pipeline, Result
from sdrt_export.demo.drawing import image_from_scene
from sdrt_export.demo.grammar import Scene

pytestmark = pytest.mark.parity

CHECKPOINT = Path(sdrt_export.__file__).parent / "demo_checkpoint"
PROMPTS = ["a large red circle on a white background", "a small blue star on a black background"]
REQUESTS = [
    {"prompt": PROMPTS[0], "num_inference_steps": 20},
    {"prompt": PROMPTS[1], "num_inference_steps": 6, "width": 72, "height": 88},  # latents 9 × 11
    {"prompt": PROMPTS, "num_inference_steps": 6, "guidance_scale": 1.0},
    {
        "prompt": PROMPTS,
        "num_inference_steps": 5,
        "negative_prompt": ["blue", "circle"],
        "guidance_rescale": 0.7,
    },
]


IMAGE = Image.fromarray(image_from_scene(Scene("circle", "red", "white", "large")))
MASK = Image.new("L", IMAGE.size)
ImageDraw.Draw(MASK).rectangle((0, 0, 63, 127), fill=255)
OUTLINE = Image.new("RGB", IMAGE.size)
ImageDraw.Draw(OUTLINE).rectangle((40, 30, 90, 80), outline="white", width=2)
# diffusers' pipeline, what both are given, what each is given in its own words
WITH_IMAGES: dict[str, tuple[Any, dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "image to image": (
        StableDiffusionImg2ImgPipeline,
        {"image": IMAGE, "strength": 0.6, "num_inference_steps": 10},
        {},
        {},
    ),
    "inpainting": (
        StableDiffusionInpaintPipeline,
        {"image": IMAGE, "mask_image": MASK, "num_inference_steps": 6},
        {},
        {"height": 128, "width": 128},
    ),
    "control": (
        StableDiffusionControlNetPipeline,
        {"num_inference_steps": 8},
        {"control": {"edges": Control(OUTLINE, scale=0.9)}},
        {"image": OUTLINE, "controlnet_conditioning_scale": 0.9},
    ),
    "inpainting with control": (
        StableDiffusionControlNetInpaintPipeline,
        {"image": IMAGE, "mask_image": MASK, "num_inference_steps": 6},
        {"control": {"edges": Control(OUTLINE, start=0.3)}},
        {
            "control_image": OUTLINE,
            "controlnet_conditioning_scale": 1.0,  # diffusers' default differs here
            "control_guidance_start": 0.3,
            "height": 128,
            "width": 128,
        },
    ),
}


@pytest.fixture(scope="module")
def ours() -> Pipeline:
    return Pipeline.open("demo", target="cpu", num_threads=1)


@pytest.fixture(scope="module")
def theirs() -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(CHECKPOINT).to(torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("options", REQUESTS, ids=str)
def test_same_image(
    ours: Pipeline, theirs: StableDiffusionPipeline, options: dict[str, Any]
) -> None:
    assert_same_image(ours(**options, seed=7), theirs, options)


@pytest.mark.parametrize("name", WITH_IMAGES)
def test_same_image_from_images(name: str, ours: Pipeline, theirs: StableDiffusionPipeline) -> None:
    kind, options, our_words, their_words = WITH_IMAGES[name]
    parts = dict(theirs.components)
    if "control" in our_words:
        controlnet = ControlNetModel.from_pretrained(CHECKPOINT / "controlnet_edges")
        parts["controlnet"] = controlnet.to(torch.float32)
    pipe = kind(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    options = {"prompt": PROMPTS[1], **options}
    assert_same_image(ours(**options, **our_words, seed=7), pipe, options | their_words)


def assert_same_image(result: Result, theirs: Any, options: dict[str, Any]) -> None:
    latents: list[np.ndarray] = []

    def note(pipe: object, index: int, t: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        latents.append(tensors["latents"].numpy())
        return tensors

    expected = theirs(
        **{"guidance_scale": result.request.guidance_scale} | options,
        generator=[torch.Generator().manual_seed(seed) for seed in result.seeds],
        callback_on_step_end=note,
    ).images
    limit = 1e-3 * max(1.0, abs(latents[-1]).max())
    assert abs(result.latents - latents[-1]).max() <= limit
    assert abs(pixels(result.images) - pixels(expected)).max() <= 2


def pixels(images: Any) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images]).astype(int)  # (B, H, W, 3)
