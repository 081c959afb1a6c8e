"""The demo model follows its prompt: seeded prompts from its whole grammar."""

from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
import pytest

import sdrt
from sdrt_export.demo.grammar import ALL_SCENES, Scene, caption_from_scene
from sdrt_export.demo.judge import ATTRIBUTES, score

BATCH = 8
Drawn: TypeAlias = tuple[Scene, npt.NDArray[np.uint8]]


@pytest.fixture(scope="module")
def pipeline() -> Iterator[sdrt.Pipeline]:
    with sdrt.Pipeline.open("demo", target="cpu", num_threads=1) as pipeline:
        yield pipeline


def _draw(pipeline: sdrt.Pipeline, scenes: Sequence[Scene], **keywords: Any) -> Iterator[Drawn]:
    """Each scene and its image; scene i has seed 1000 + i."""
    for start in range(0, len(scenes), BATCH):
        batch = scenes[start : start + BATCH]
        prompts = [caption_from_scene(scene) for scene in batch]
        images = pipeline(prompts, seed=1000 + start, num_inference_steps=20, **keywords).images
        yield from zip(batch, map(np.asarray, images), strict=True)


def _scenes(num: int, seed: int) -> list[Scene]:
    chosen = np.random.default_rng(seed).choice(len(ALL_SCENES), num, replace=False)
    return [ALL_SCENES[i] for i in chosen]


@pytest.mark.parametrize("num_prompts", [48, pytest.param(200, marks=pytest.mark.full)])
def test_the_images_are_what_was_asked_for(pipeline: sdrt.Pipeline, num_prompts: int) -> None:
    shares = score(_draw(pipeline, _scenes(num_prompts, seed=2026)))
    assert {name: share for name, share in shares.items() if share < 0.95 and name != "all"} == {}
    assert shares["all"] >= 0.90
    assert set(shares) == {*ATTRIBUTES, "all"}


@pytest.mark.parametrize("scheduler", ["euler", "dpmpp_2m", "unipc", "heun"])
def test_other_samplers_draw_it_too(pipeline: sdrt.Pipeline, scheduler: str) -> None:
    shares = score(_draw(pipeline, _scenes(24, seed=5), scheduler=scheduler))
    assert shares["all"] >= 0.75  # of 24 images: far above chance or a wrong schedule


def test_grounds_are_flat_and_edges_clean(pipeline: sdrt.Pipeline) -> None:
    """Away from the shape the image has one colour: few pixels differ from the border's."""
    for _, image in _draw(pipeline, _scenes(16, seed=6)):
        border = np.concatenate([image[:3].reshape(-1, 3), image[-3:].reshape(-1, 3)])
        distance = np.linalg.norm(border.astype(float) - np.median(border, axis=0), axis=1)
        assert np.mean(distance > 40) < 0.1
