"""Outline images for the demo's ControlNet: white lines on black, 128×128, any place and size.

    python -m sdrt_export.demo.outlines square docs/square_outline.png

draws the outline of a shape in the middle of the image.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sdrt_export.demo.drawing import (
    IMAGE_SIZE,
    OVERSAMPLING,
    RADIUS,
    Mask,
    Placement,
    Points,
    image_from_mask,
    mask_from_outlines,
    outlines_at,
    position_from_offset,
)
from sdrt_export.demo.grammar import ALL_SCENES, SHAPES, Scene, Shape, draw_caption

RADII = (18.0, 42.0)  # pixels, the least and the largest
LARGEST_TURN = np.radians(20)
MARGIN = 4.0  # pixels between an outline and the edge of the image
LINE_WIDTHS = (1, 2, 3)  # pixels

OutlineImage = npt.NDArray[np.uint8]  # (128, 128), 0 or 255 where the lines are hard


@dataclass(frozen=True)
class Figure:
    """One shape anywhere in the image, without colours."""

    shape: Shape
    placement: Placement

    @property
    def outlines(self) -> tuple[Points, ...]:
        """The outlines in pixels."""
        return outlines_at(self.shape, self.placement)

    @property
    def mask(self) -> Mask:
        """The share of each pixel that the shape covers."""
        return mask_from_outlines(self.outlines)


def draw_figure(rng: np.random.Generator) -> Figure:
    """A random shape with random size and rotation, at a random place inside the image."""
    shape = SHAPES[int(rng.integers(len(SHAPES)))]
    radius, turn = rng.uniform(*RADII), rng.uniform(-LARGEST_TURN, LARGEST_TURN)
    around_origin = outlines_at(shape, Placement((0.0, 0.0), radius, turn))[0]
    least = MARGIN - around_origin.min(axis=0)
    largest = IMAGE_SIZE - MARGIN - around_origin.max(axis=0)
    x, y = rng.uniform(least, largest)
    return Figure(shape, Placement((float(x), float(y)), float(radius), float(turn)))


def image_of_figure(figure: Figure, scene: Scene) -> npt.NDArray[np.uint8]:
    """The figure in the scene's two colours, (128, 128, 3) in 0..255."""
    return image_from_mask(figure.mask, scene.colour, scene.ground)


def draw_outline_image(figure: Figure, rng: np.random.Generator) -> OutlineImage:
    """The figure's outlines in one of the styles of users' images: smooth or hard lines of one to
    three pixels, or the pixels found by an edge detector.
    """
    style, width = rng.integers(3), LINE_WIDTHS[int(rng.integers(len(LINE_WIDTHS)))]
    if style == 0:
        return edge_image_from_mask(figure.mask)
    return image_from_outlines(figure.outlines, width, smooth=bool(style == 1))


def image_from_outlines(
    outlines: tuple[Points, ...], width: int = 2, *, smooth: bool = True
) -> OutlineImage:
    """Lines of `width` pixels along the outlines."""
    scale = OVERSAMPLING if smooth else 1
    canvas = Image.new("L", (IMAGE_SIZE * scale,) * 2)
    pen = ImageDraw.Draw(canvas)
    for outline in outlines:
        closed = np.floor(np.concatenate([outline, outline[:2]]) * scale)  # the pixels it crosses
        pen.line([tuple(point) for point in closed], fill=255, width=width * scale, joint="curve")
    return np.asarray(canvas.reduce(scale) if smooth else canvas)


def edge_image_from_mask(mask: Mask) -> OutlineImage:
    """The pixels of the shape that touch the ground: one pixel wide and hard, like Canny's
    edges."""
    return np.where(edges_of(mask > 0.5), np.uint8(255), np.uint8(0))


def edges_of(inside: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The pixels inside that have a neighbour (of four, within the image) outside."""
    padded = np.pad(inside, 1, mode="edge")
    surrounded = padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
    edges: npt.NDArray[np.bool_] = inside & ~surrounded
    return edges


def draw_figure_caption(figure: Figure, scene: Scene, rng: np.random.Generator) -> str:
    """A caption with the scene's colours; its shape, size and place are right in a third of the
    cases, missing in a sixth, and those of another scene in the rest.
    """
    truth = rng.random()
    if truth < 1 / 6:
        return f"a {scene.colour} shape on a {scene.ground} background"
    if truth < 1 / 2:
        return draw_caption(described(figure, scene), rng)
    return draw_caption(scene, rng)


def described(figure: Figure, scene: Scene) -> Scene:
    """The scene that describes the figure, with the colours of `scene`."""
    size = min(RADIUS, key=lambda name: abs(RADIUS[name] - figure.placement.radius))
    x, y = np.array(figure.placement.centre) - IMAGE_SIZE / 2
    return Scene(figure.shape, scene.colour, scene.ground, size, position_from_offset(x, y))


def draw_scene(rng: np.random.Generator) -> Scene:
    """Any of the grammar's scenes."""
    return ALL_SCENES[int(rng.integers(len(ALL_SCENES)))]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("shape", choices=SHAPES)
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    middle = Placement((IMAGE_SIZE / 2, IMAGE_SIZE / 2), RADIUS["medium"])
    lines = image_from_outlines(outlines_at(arguments.shape, middle))
    Image.fromarray(lines).save(arguments.output, optimize=True)


if __name__ == "__main__":
    main()
