"""Images of scenes, 128×128, drawn at four times the size and averaged down for clean edges."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sdrt_export.demo.grammar import RGB, Colour, Position, Scene, Shape, Size

IMAGE_SIZE = 128  # pixels
RADIUS: dict[Size, float] = {"small": 22.0, "medium": 30.0, "large": 40.0}  # pixels
MARGIN = 5.0  # pixels between a shape and the edge of the image
JITTER = 3.0  # pixels that a shape may lie off its place, either way
FARTHEST = 32.0  # pixels from the centre to a shape at an edge, if it is small enough

OVERSAMPLING = 4
_DIRECTION: dict[Position, tuple[float, float]] = {
    "centre": (0, 0),
    "left": (-1, 0),
    "right": (1, 0),
    "top": (0, -1),
    "bottom": (0, 1),
}

Points = npt.NDArray[np.float64]  # (n, 2), x to the right and y down, in radii of the shape
Mask = npt.NDArray[np.float32]  # (128, 128) in 0..1


@dataclass(frozen=True)
class Placement:
    """The place, size and rotation of a shape."""

    centre: tuple[float, float]  # (x, y) in pixels
    radius: float  # pixels
    turn: float = 0.0  # radians, clockwise on the screen


def outlines_from_shape(shape: Shape) -> tuple[Points, ...]:
    """The shape's closed outlines: the outer one and, for a ring, the hole."""
    match shape:
        case "circle":
            return (_regular_polygon(96, 0.95),)
        case "ring":
            return (_regular_polygon(96, 1.0), _regular_polygon(96, 0.56))
        case "square":
            return (_regular_polygon(4, 1.2, turn=np.pi / 4),)
        case "diamond":
            return (np.array([(0, -1.1), (0.72, 0), (0, 1.1), (-0.72, 0)]),)
        case "triangle":
            return (np.array([(0, -0.95), (1.0, 0.8), (-1.0, 0.8)]),)
        case "star":
            turns = -np.pi / 2 + np.arange(10) * np.pi / 5
            radii = np.where(np.arange(10) % 2 == 0, 1.1, 0.46)
            return (_polar(radii, turns) + np.array([0, 0.08]),)
        case "cross":
            arm = 0.34
            corner = [(-arm, -1), (arm, -1), (arm, -arm), (1, -arm), (1, arm), (arm, arm)]
            return (np.array([*corner, *[(-x, -y) for x, y in corner]]),)
        case "heart":
            t = np.linspace(0, 2 * np.pi, 96, endpoint=False)
            x = 16 * np.sin(t) ** 3
            y = 13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)
            return (np.stack([x / 16, -y / 16], axis=1) - (0, 0.12),)


def place_scene(scene: Scene, shift: tuple[float, float] = (0.0, 0.0)) -> Placement:
    """The placement of the scene's shape, moved by `shift` (x, y)."""
    radius = RADIUS[scene.size]
    reach = min(FARTHEST, IMAGE_SIZE / 2 - radius - MARGIN)
    x, y = (
        IMAGE_SIZE / 2 + reach * d + s
        for d, s in zip(_DIRECTION[scene.position], shift, strict=True)
    )
    return Placement((x, y), radius)


def position_from_offset(x: float, y: float) -> Position:
    """The word for a place at this offset in pixels from the image's centre."""
    if max(abs(x), abs(y)) < 9:
        return "centre"
    if abs(x) > abs(y):
        return "left" if x < 0 else "right"
    return "top" if y < 0 else "bottom"


def outlines_at(shape: Shape, placement: Placement) -> tuple[Points, ...]:
    """The shape's outlines (n, 2) in pixels; (0, 0) is the image's upper left corner."""
    cos, sin = np.cos(placement.turn), np.sin(placement.turn)
    turned = np.array([(cos, sin), (-sin, cos)]) * placement.radius
    return tuple(outline @ turned + placement.centre for outline in outlines_from_shape(shape))


def mask_from_outlines(outlines: tuple[Points, ...]) -> Mask:
    """The share of each pixel that lies inside the first outline, and outside the second if there
    is one; (128, 128) in 0..1.
    """
    canvas = Image.new("L", (IMAGE_SIZE * OVERSAMPLING,) * 2)
    pen = ImageDraw.Draw(canvas)
    for fill, outline in zip((255, 0), outlines, strict=False):
        pen.polygon([tuple(corner) for corner in outline * OVERSAMPLING], fill=fill)
    return np.asarray(canvas.reduce(OVERSAMPLING), dtype=np.float32) / np.float32(255)


def image_from_mask(mask: Mask, colour: Colour, ground: Colour) -> npt.NDArray[np.uint8]:
    """The image, (128, 128, 3) in 0..255."""
    covered = mask[..., None]
    image = covered * np.array(RGB[colour]) + (1 - covered) * np.array(RGB[ground])
    pixels: npt.NDArray[np.uint8] = np.rint(image).astype(np.uint8)
    return pixels


def mask_from_scene(scene: Scene, shift: tuple[float, float] = (0.0, 0.0)) -> Mask:
    """The share of each pixel that the shape covers, (128, 128) in 0..1, moved by `shift` (x,
    y)."""
    return mask_from_outlines(outlines_at(scene.shape, place_scene(scene, shift)))


def image_from_scene(
    scene: Scene, shift: tuple[float, float] = (0.0, 0.0)
) -> npt.NDArray[np.uint8]:
    """The image, (128, 128, 3) in 0..255."""
    return image_from_mask(mask_from_scene(scene, shift), scene.colour, scene.ground)


def draw_shift(rng: np.random.Generator) -> tuple[float, float]:
    """A small random displacement, so that shapes are not always at the same pixel."""
    x, y = rng.uniform(-JITTER, JITTER, 2)
    return float(x), float(y)


def _regular_polygon(num_corners: int, radius: float, turn: float = 0.0) -> Points:
    turns = turn + np.arange(num_corners) * 2 * np.pi / num_corners
    return _polar(np.full(num_corners, radius), turns)


def _polar(radii: Points, turns: Points) -> Points:
    return np.stack([radii * np.cos(turns), radii * np.sin(turns)], axis=1)
