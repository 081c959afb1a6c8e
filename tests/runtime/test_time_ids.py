"""The numbers about an image that SDXL's denoisers take, by the rules of diffusers' pipelines."""

from __future__ import annotations

from typing import Any

import pytest

from sdrt.errors import RequestError
from sdrt.families.family import DenoiserFacts
from sdrt.request import Request
from sdrt.time_ids import require_time_ids, time_ids_of, without_effect
from support.images import mask, sample_image

BASE = DenoiserFacts(time_ids=("original_size", "crop", "target_size"))
SCORED = DenoiserFacts(time_ids=("original_size", "crop", "aesthetic_score"))
IMAGE = {"image": sample_image(24, 16)}
OWN = (16, 24, 0, 0, 16, 24)
ORIGINAL, CROP, TARGET = (5, 6), (7, 8), (9, 10)
POSITIVE = {"original_size": (1, 2), "crops_coords_top_left": (3, 4), "target_size": (11, 12)}
NEGATIVE = {
    "negative_original_size": ORIGINAL,
    "negative_crops_coords_top_left": CROP,
    "negative_target_size": TARGET,
}


def request(**keywords: Any) -> Request:
    return Request("a", **keywords)


@pytest.mark.parametrize(
    ("keywords", "positive", "negative"),
    [
        ({}, OWN, OWN),
        (POSITIVE, (1, 2, 3, 4, 11, 12), (1, 2, 3, 4, 11, 12)),
        # text to image: the negative prompt has all numbers of its own, or none
        (NEGATIVE, OWN, (*ORIGINAL, *CROP, *TARGET)),
        (POSITIVE | NEGATIVE, (1, 2, 3, 4, 11, 12), (*ORIGINAL, *CROP, *TARGET)),
        (NEGATIVE | {"negative_original_size": None}, OWN, OWN),
        (NEGATIVE | {"negative_target_size": None}, OWN, OWN),
        (
            POSITIVE | NEGATIVE | {"negative_crops_coords_top_left": None},
            (1, 2, 3, 4, 11, 12),
            (*ORIGINAL, 0, 0, *TARGET),
        ),
        # with an image: each size by itself, and never a crop
        (IMAGE | NEGATIVE, OWN, (*ORIGINAL, 0, 0, *TARGET)),
        (IMAGE | POSITIVE | NEGATIVE, (1, 2, 3, 4, 11, 12), (*ORIGINAL, 3, 4, *TARGET)),
        (IMAGE | {"negative_original_size": ORIGINAL}, OWN, (*ORIGINAL, 0, 0, 16, 24)),
        (IMAGE | {"negative_target_size": TARGET}, OWN, (16, 24, 0, 0, *TARGET)),
    ],
)
def test_sizes_and_crop(
    keywords: dict[str, Any], positive: tuple[float, ...], negative: tuple[float, ...]
) -> None:
    ids = time_ids_of(request(**keywords), (24, 16), BASE)
    assert ids == {"positive": positive, "negative": negative}


@pytest.mark.parametrize("start", [{}, IMAGE, IMAGE | {"mask_image": mask(24, 16, (0, 0, 8, 8))}])
@pytest.mark.parametrize(
    ("keywords", "positive", "negative"),
    [
        ({}, (16, 24, 0, 0, 6), (16, 24, 0, 0, 2.5)),
        ({"crops_coords_top_left": (3, 4)}, (16, 24, 3, 4, 6), (16, 24, 0, 0, 2.5)),
        (
            {"negative_original_size": ORIGINAL, "negative_crops_coords_top_left": CROP},
            (16, 24, 0, 0, 6),
            (*ORIGINAL, *CROP, 2.5),
        ),
        (
            {"aesthetic_score": 0, "negative_aesthetic_score": 9.5},
            (16, 24, 0, 0, 0),
            (16, 24, 0, 0, 9.5),
        ),
    ],
)
def test_a_scored_model_takes_the_negative_prompt_s_own_crop(
    start: dict[str, Any],
    keywords: dict[str, Any],
    positive: tuple[float, ...],
    negative: tuple[float, ...],
) -> None:
    ids = time_ids_of(request(**start, **keywords), (24, 16), SCORED)
    assert ids == {"positive": positive, "negative": negative}


def test_a_model_without_such_inputs_takes_none() -> None:
    assert time_ids_of(request(), (24, 16), DenoiserFacts()) == {"positive": (), "negative": ()}


BOTH = "without negative_original_size and negative_target_size"
PROMPTS = "if there is an image: the prompt's crop counts for both"


@pytest.mark.parametrize(
    ("facts", "keywords", "expected"),
    [
        (BASE, POSITIVE | NEGATIVE, {}),
        (
            BASE,
            {"negative_original_size": ORIGINAL},
            {"negative_original_size": "without negative_target_size"},
        ),
        (
            BASE,
            {"negative_target_size": TARGET, "negative_crops_coords_top_left": CROP},
            {
                "negative_crops_coords_top_left": "without negative_original_size",
                "negative_target_size": "without negative_original_size",
            },
        ),
        (
            BASE,
            {"negative_crops_coords_top_left": CROP},
            {"negative_crops_coords_top_left": BOTH},
        ),
        (BASE, IMAGE | NEGATIVE, {"negative_crops_coords_top_left": PROMPTS}),
        (BASE, IMAGE | {"negative_target_size": TARGET}, {}),
        (SCORED, {"negative_crops_coords_top_left": CROP}, {}),
        (DenoiserFacts(), {}, {}),
    ],
)
def test_what_has_no_effect(
    facts: DenoiserFacts, keywords: dict[str, Any], expected: dict[str, str]
) -> None:
    assert dict(without_effect(request(**keywords), facts)) == expected


@pytest.mark.parametrize(
    ("facts", "keywords", "message"),
    [
        (
            DenoiserFacts(),
            {"original_size": (5, 6)},
            r"original_size: got \(5, 6\), but this bundle's model takes no sizes: leave it out",
        ),
        (DenoiserFacts(), {"negative_target_size": (5, 6)}, "negative_target_size: got"),
        (DenoiserFacts(), {"crops_coords_top_left": (0, 0)}, "crops_coords_top_left: got"),
        (
            BASE,
            {"aesthetic_score": 0.0},
            "aesthetic_score: got 0.0, but this bundle's model takes original_size, "
            "crops_coords_top_left, target_size: leave it out",
        ),
        (BASE, {"negative_aesthetic_score": 2.5}, "negative_aesthetic_score: got 2.5"),
        (SCORED, {"target_size": (5, 6)}, "target_size: got"),
        (SCORED, {"negative_target_size": (5, 6)}, "negative_target_size: got"),
    ],
)
def test_numbers_without_an_input_are_refused(
    facts: DenoiserFacts, keywords: dict[str, Any], message: str
) -> None:
    with pytest.raises(RequestError, match=f"^{message}"):
        require_time_ids(request(**keywords), facts)


@pytest.mark.parametrize("facts", [BASE, SCORED])
def test_numbers_with_an_input_are_taken(facts: DenoiserFacts) -> None:
    keywords = {"original_size": (5, 6), "negative_crops_coords_top_left": (1, 1)}
    require_time_ids(request(**keywords), facts)
