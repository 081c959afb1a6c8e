"""Tests of the measure for following an outline: on true, damaged and wrong images."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import pytest

from sdrt_export.demo.drawing import IMAGE_SIZE
from sdrt_export.demo.edge_judge import ControlPair, edge_agreement, held_out_pairs, score_control
from sdrt_export.demo.grammar import RGB
from sdrt_export.demo.outlines import Figure, edge_image_from_mask, image_of_figure

PAIRS = held_out_pairs(60)


def _moved(figure: Figure, x: int, y: int) -> Figure:
    old = figure.placement
    return Figure(figure.shape, replace(old, centre=(old.centre[0] + x, old.centre[1] + y)))


def _draw(figures: Sequence[Figure]) -> list[tuple[ControlPair, npt.NDArray[np.uint8]]]:
    """Each pair and the image of its figure in the prompt's colours."""
    return [
        (pair, image_of_figure(figure, pair.scene))
        for pair, figure in zip(PAIRS, figures, strict=True)
    ]


def test_true_images_agree_with_every_style_of_outline() -> None:
    images = _draw([pair.figure for pair in PAIRS])
    scores = score_control(images)
    assert scores["edge_iou"] > 0.98
    assert scores["colours"] == 1
    assert min(edge_agreement(pair.outline, image) for pair, image in images) > 0.85


def test_noise_and_blur_change_little() -> None:
    rng = np.random.default_rng(31)
    spoilt = []
    for pair, image in _draw([pair.figure for pair in PAIRS]):
        soft = (image.astype(float) + np.roll(image, 1, 0) + np.roll(image, 1, 1)) / 3
        noisy = (soft + rng.normal(0, 8, soft.shape)).clip(0, 255).astype(np.uint8)
        spoilt.append((pair, noisy))
    scores = score_control(spoilt)
    assert scores["edge_iou"] > 0.93
    assert scores["colours"] == 1


def test_other_figures_do_not_agree() -> None:
    others = [pair.figure for pair in PAIRS[1:] + PAIRS[:1]]
    assert score_control(_draw(others))["edge_iou"] < 0.15


def test_the_farther_off_the_less_agreement() -> None:
    by_distance = [
        score_control(_draw([_moved(pair.figure, d, -d) for pair in PAIRS]))["edge_iou"]
        for d in (0, 1, 2, 3)
    ]
    assert by_distance == sorted(by_distance, reverse=True)
    assert by_distance[1] > 0.9  # within the tolerance
    assert by_distance[3] < 0.5


def test_a_figure_of_another_size_does_not_agree() -> None:
    smaller = [
        Figure(
            pair.figure.shape,
            replace(pair.figure.placement, radius=0.75 * pair.figure.placement.radius),
        )
        for pair in PAIRS
    ]
    assert score_control(_draw(smaller))["edge_iou"] < 0.5


def test_exchanged_colours_are_wrong_but_the_edges_right() -> None:
    exchanged = [
        (
            pair,
            image_of_figure(
                pair.figure, replace(pair.scene, colour=pair.scene.ground, ground=pair.scene.colour)
            ),
        )
        for pair in PAIRS
    ]
    scores = score_control(exchanged)
    assert scores["edge_iou"] > 0.98
    assert scores["colours"] == 0


def test_an_empty_image_agrees_with_nothing() -> None:
    empty = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), RGB["yellow"], np.uint8)
    assert edge_agreement(PAIRS[0].outline, empty) == 0


def test_half_an_outline_is_half_an_agreement() -> None:
    """The edge of a square, with only its upper half as outline: the outline and half of the edge,
    with the two rows that are still within the tolerance, are matched."""
    image = np.full((IMAGE_SIZE, IMAGE_SIZE, 3), RGB["white"], np.uint8)
    image[32:96, 32:96] = RGB["red"]
    outline = edge_image_from_mask((image[..., 1] < 100).astype(np.float32))
    assert edge_agreement(outline, image) == 1
    outline[64:] = 0
    rim = 4 * 63
    intersection = (rim / 2 + rim / 2 + 4) / 2
    expected = intersection / (intersection + rim / 2 - 4)
    assert edge_agreement(outline, image) == pytest.approx(expected)


def test_held_out_pairs_are_always_the_same_and_mostly_contradict_their_outlines() -> None:
    again = held_out_pairs(60)
    assert [(p.figure, p.scene) for p in again] == [(p.figure, p.scene) for p in PAIRS]
    assert all((p.outline == q.outline).all() for p, q in zip(PAIRS, again, strict=True))
    assert held_out_pairs(10)[9].figure == PAIRS[9].figure
    assert np.mean([p.figure.shape != p.scene.shape for p in PAIRS]) > 0.75
    assert all(p.scene.colour in p.prompt and p.scene.ground in p.prompt for p in PAIRS)
