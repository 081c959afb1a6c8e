"""Recognises the ground, colour, shape and place in an image of the demo model. No learned parts.

The judge sees only an image; its findings are compared with the scene that was prompted.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

import numpy as np
import numpy.typing as npt

from sdrt_export.demo.drawing import IMAGE_SIZE, mask_from_scene, position_from_offset
from sdrt_export.demo.grammar import COLOURS, RGB, SHAPES, Colour, Position, Scene, Shape

ATTRIBUTES = ("colour", "ground", "shape", "position")

_PALETTE = np.array([RGB[colour] for colour in COLOURS], dtype=np.float32)  # (8, 3)
_TEMPLATE_SIZE = 48  # pixels of the square that every shape is scaled to before it is compared
_SMALLEST_AREA = 0.006  # of the image: anything smaller is a speck, not a shape


@dataclass(frozen=True)
class Sighting:
    """The judge's findings; `None` if it sees no shape."""

    ground: Colour
    colour: Colour | None
    shape: Shape | None
    position: Position | None

    def agreement(self, scene: Scene) -> dict[str, bool]:
        """For each attribute, True if it is right."""
        return {name: getattr(self, name) == getattr(scene, name) for name in ATTRIBUTES}


@dataclass(frozen=True)
class Parting:
    """An image separated into object and ground."""

    ground: npt.NDArray[np.float32]  # (3,) in 0..255
    colour: npt.NDArray[np.float32] | None  # (3,) of the object; None without an object
    mask: npt.NDArray[np.bool_]  # (128, 128), true on the object


def part(image: npt.NDArray[np.uint8]) -> Parting:
    """Separates an image (128, 128, 3) in 0..255 at equal distances from the ground's colour and
    the object's.
    """
    pixels = image.astype(np.float32)
    border = np.concatenate([pixels[:2].reshape(-1, 3), pixels[-2:].reshape(-1, 3)])
    ground = np.median(border, axis=0)
    mask = np.linalg.norm(pixels - ground, axis=-1) > 60
    nothing = Parting(ground, None, np.zeros_like(mask))
    if mask.mean() < _SMALLEST_AREA:
        return nothing
    colour = np.median(pixels[_inner(mask)], axis=0)
    to_ground, to_shape = (np.linalg.norm(pixels - c, axis=-1) for c in (ground, colour))
    mask = to_shape < to_ground
    return Parting(ground, colour, mask) if mask.mean() >= _SMALLEST_AREA else nothing


def sight(image: npt.NDArray[np.uint8]) -> Sighting:
    """Looks at one image (128, 128, 3) in 0..255."""
    parting = part(image)
    ground = _nearest_colour(parting.ground)
    if parting.colour is None:
        return Sighting(ground, None, None, None)
    return Sighting(
        ground,
        _nearest_colour(parting.colour),
        _nearest_shape(parting.mask),
        _nearest_position(parting.mask),
    )


def score(pairs: Iterable[tuple[Scene, npt.NDArray[np.uint8]]]) -> dict[str, float]:
    """The share of images in which each attribute is right, and `all` four together."""
    agreements = [sight(image).agreement(scene) for scene, image in pairs]
    shares = {name: float(np.mean([a[name] for a in agreements])) for name in ATTRIBUTES}
    return shares | {"all": float(np.mean([all(a.values()) for a in agreements]))}


def _nearest_colour(rgb: npt.NDArray[np.float32]) -> Colour:
    return COLOURS[int(np.linalg.norm(_PALETTE - rgb, axis=1).argmin())]


def _nearest_position(mask: npt.NDArray[np.bool_]) -> Position:
    """The position of the bounding box's centre, relative to the image's centre."""
    top, bottom, left, right = _bounding_box(mask)
    return position_from_offset(
        (left + right) / 2 - IMAGE_SIZE / 2, (top + bottom) / 2 - IMAGE_SIZE / 2
    )


def _nearest_shape(mask: npt.NDArray[np.bool_]) -> Shape:
    """The shape whose template in the same bounding box has the largest intersection over union."""
    scaled = _scale_to_box(mask)
    overlaps = [(scaled & t).sum() / (scaled | t).sum() for t in _templates()]
    return SHAPES[int(np.argmax(overlaps))]


@cache
def _templates() -> tuple[npt.NDArray[np.bool_], ...]:
    scenes = [Scene(shape, "red", "white", "large") for shape in SHAPES]
    return tuple(_scale_to_box(mask_from_scene(scene) > 0.5) for scene in scenes)


def _scale_to_box(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask's bounding box at template size, as a square so that a slim diamond stays slim."""
    top, bottom, left, right = _bounding_box(mask)
    side = max(bottom - top, right - left)
    offsets = (np.arange(_TEMPLATE_SIZE) + 0.5) / _TEMPLATE_SIZE - 0.5
    rows = np.floor((top + bottom) / 2 + offsets * side).astype(int)
    columns = np.floor((left + right) / 2 + offsets * side).astype(int)
    padded = np.pad(mask, IMAGE_SIZE // 2)
    box: npt.NDArray[np.bool_] = padded[np.ix_(rows + IMAGE_SIZE // 2, columns + IMAGE_SIZE // 2)]
    return box


def _bounding_box(mask: npt.NDArray[np.bool_]) -> tuple[int, int, int, int]:
    """Top, bottom, left, right (half open) of rows and columns with more than a stray pixel."""
    rows, columns = (np.nonzero(mask.sum(axis) > 1)[0] for axis in (1, 0))
    if not len(rows) or not len(columns):
        rows, columns = np.nonzero(mask)
    return int(rows.min()), int(rows.max()) + 1, int(columns.min()), int(columns.max()) + 1


def _inner(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """The mask without its border of one pixel, where colours mix, unless nothing else is left."""
    inner = mask.copy()
    for axis in (0, 1):
        for step in (-1, 1):
            inner &= np.roll(mask, step, axis)
    return inner if inner.any() else mask
