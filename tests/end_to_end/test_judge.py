"""Tests of the demo model's judge: on true, damaged and wrong images."""

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from sdrt_export.demo.drawing import IMAGE_SIZE, draw_shift, image_from_scene
from sdrt_export.demo.grammar import ALL_SCENES, COLOURS, POSITIONS, RGB, SHAPES, Scene
from sdrt_export.demo.judge import ATTRIBUTES, score, sight

SCENE = Scene("star", "blue", "yellow", "medium", "left")


def _true_images(num: int) -> list[tuple[Scene, npt.NDArray[np.uint8]]]:
    rng = np.random.default_rng(11)
    chosen = rng.choice(len(ALL_SCENES), num, replace=False)
    return [(ALL_SCENES[i], image_from_scene(ALL_SCENES[i], draw_shift(rng))) for i in chosen]


def test_true_images_are_read_without_an_error() -> None:
    assert score(_true_images(600)) == dict.fromkeys((*ATTRIBUTES, "all"), 1.0)


def test_noise_and_blur_do_not_change_the_verdict() -> None:
    rng = np.random.default_rng(12)
    spoilt = []
    for scene, image in _true_images(200):
        soft = (image.astype(float) + np.roll(image, 1, 0) + np.roll(image, 1, 1)) / 3
        noisy = soft + rng.normal(0, 8, soft.shape)
        spoilt.append((scene, noisy.clip(0, 255).astype(np.uint8)))
    assert score(spoilt)["all"] >= 0.99


@pytest.mark.parametrize(
    ("attribute", "others"),
    [
        ("shape", [s for s in SHAPES if s != SCENE.shape]),
        ("colour", [c for c in COLOURS if c not in (SCENE.colour, SCENE.ground)]),
        ("ground", [c for c in COLOURS if c not in (SCENE.colour, SCENE.ground)]),
        ("position", [p for p in POSITIONS if p != SCENE.position]),
    ],
)
def test_exactly_the_wrong_attribute_is_found(attribute: str, others: list[str]) -> None:
    for other in others:
        changed: dict[str, Any] = {attribute: other}
        image = image_from_scene(replace(SCENE, **changed))
        wrong = [name for name, right in sight(image).agreement(SCENE).items() if not right]
        assert wrong == [attribute]


def test_an_empty_ground_has_no_shape() -> None:
    empty = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), RGB["yellow"], np.uint8)
    assert sight(empty).shape is None
    assert score([(SCENE, empty)]) == {
        "colour": 0,
        "ground": 1,
        "shape": 0,
        "position": 0,
        "all": 0,
    }


def test_pure_noise_is_not_the_scene() -> None:
    noise = np.random.default_rng(13).integers(0, 256, (IMAGE_SIZE, IMAGE_SIZE, 3))
    assert not all(sight(noise.astype(np.uint8)).agreement(SCENE).values())
