"""Measures how well an image of the demo model follows an outline. No learned parts.

The edges of the image are those between object and ground as separated by the judge; the outline is
the control image's white pixels, whatever the width of its lines.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sdrt_export.demo.drawing import IMAGE_SIZE
from sdrt_export.demo.grammar import Scene, caption_from_scene
from sdrt_export.demo.judge import part, sight
from sdrt_export.demo.outlines import (
    Figure,
    OutlineImage,
    draw_figure,
    draw_outline_image,
    draw_scene,
    edges_of,
)

TOLERANCE = 2  # pixels between an edge and the outline that it follows

_HELD_OUT = 3  # first word of the seeds; the training's seeds begin with another


@dataclass(frozen=True)
class ControlPair:
    """An outline and a prompt. Only the colours of the prompt match; the rest is mostly wrong."""

    figure: Figure
    outline: OutlineImage
    scene: Scene

    @property
    def prompt(self) -> str:
        """The plain caption of the scene."""
        return caption_from_scene(self.scene)


def held_out_pairs(num_pairs: int) -> list[ControlPair]:
    """Pairs that no training has seen, always the same ones."""
    rngs = [np.random.default_rng([_HELD_OUT, i]) for i in range(num_pairs)]
    figures = [(draw_figure(rng), rng) for rng in rngs]
    return [
        ControlPair(figure, draw_outline_image(figure, rng), draw_scene(rng))
        for figure, rng in figures
    ]


def edge_agreement(outline: OutlineImage, image: npt.NDArray[np.uint8]) -> float:
    """Intersection over union of outline (128, 128) and the edges in `image` (128, 128, 3).

    A pixel of either matches if the other has a pixel within `TOLERANCE`, in straight distance. The
    intersection is the mean number of matched pixels of the two, so that neither thick lines nor
    jagged edges count twice; the union is the intersection and all unmatched pixels of both. The
    result is 0 if there is no edge in the image.
    """
    lines, edges = outline > 127, edges_of(part(image).mask)
    matched_lines = lines & _dilated(edges)
    matched_edges = edges & _dilated(lines)
    intersection = (matched_lines.sum() + matched_edges.sum()) / 2
    unmatched = (lines & ~matched_lines).sum() + (edges & ~matched_edges).sum()
    return float(intersection / (intersection + unmatched)) if intersection else 0.0


def score_control(
    results: Iterable[tuple[ControlPair, npt.NDArray[np.uint8]]],
) -> dict[str, float]:
    """`edge_iou`, the mean edge agreement, and `colours`, the share of images in which both
    object and ground have the prompt's colours.
    """
    agreements, colours = [], []
    for pair, image in results:
        right = sight(image).agreement(pair.scene)
        agreements.append(edge_agreement(pair.outline, image))
        colours.append(right["colour"] and right["ground"])
    return {"edge_iou": float(np.mean(agreements)), "colours": float(np.mean(colours))}


def _dilated(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask grown by a disc of `TOLERANCE` pixels."""
    grown = np.zeros_like(mask)
    padded = np.pad(mask, TOLERANCE)
    reach = range(-TOLERANCE, TOLERANCE + 1)
    for dy in reach:
        for dx in reach:
            if dy**2 + dx**2 <= TOLERANCE**2:
                y, x = TOLERANCE + dy, TOLERANCE + dx
                grown |= padded[y : y + IMAGE_SIZE, x : x + IMAGE_SIZE]
    return grown
