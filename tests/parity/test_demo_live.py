"""The built-in demo bundle beside diffusers on the checkpoint that it was exported from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

import sdrt_export
from sdrt import Pipeline

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


@pytest.fixture(scope="module")
def ours() -> Pipeline:
    return Pipeline.open("demo", target="cpu")


@pytest.fixture(scope="module")
def theirs() -> StableDiffusionPipeline:
    pipe = StableDiffusionPipeline.from_pretrained(CHECKPOINT, torch_dtype=torch.float32)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize("options", REQUESTS, ids=str)
def test_same_picture(
    ours: Pipeline, theirs: StableDiffusionPipeline, options: dict[str, Any]
) -> None:
    result = ours(**options, seed=7)
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
