"""The prompts that the demo model understands: every scene, and the captions that describe it.

A scene is one coloured shape on a ground of another colour. A caption without a size means a medium
shape, one without a position means the centre, so each caption has exactly one right answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Literal, get_args

import numpy as np

Shape = Literal["circle", "square", "triangle", "star", "heart", "cross", "ring", "diamond"]
Colour = Literal["red", "green", "blue", "yellow", "purple", "cyan", "black", "white"]
Size = Literal["small", "medium", "large"]
Position = Literal["centre", "left", "right", "top", "bottom"]

SHAPES: tuple[Shape, ...] = get_args(Shape)
COLOURS: tuple[Colour, ...] = get_args(Colour)
SIZES: tuple[Size, ...] = get_args(Size)
POSITIONS: tuple[Position, ...] = get_args(Position)

RGB: dict[Colour, tuple[int, int, int]] = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (40, 80, 220),
    "yellow": (250, 220, 50),
    "purple": (150, 50, 190),
    "cyan": (60, 200, 225),
    "black": (15, 15, 15),
    "white": (245, 245, 245),
}


@dataclass(frozen=True)
class Scene:
    """One shape on one ground; the two colours differ."""

    shape: Shape
    colour: Colour
    ground: Colour
    size: Size = "medium"
    position: Position = "centre"

    def __post_init__(self) -> None:
        if self.colour == self.ground:
            raise ValueError(f"colour and ground must differ, both are {self.colour!r}")


ALL_SCENES: tuple[Scene, ...] = tuple(
    Scene(shape, colour, ground, size, position)
    for shape, colour, ground, size, position in product(SHAPES, COLOURS, COLOURS, SIZES, POSITIONS)
    if colour != ground
)


def caption_from_scene(scene: Scene) -> str:
    """The plain caption, e.g. `a large red circle on the left on a white background`."""
    size = "" if scene.size == "medium" else f"{scene.size} "
    subject = f"{size}{scene.colour} {scene.shape}"
    return f"a {subject}{_PLACE[scene.position][0]} on a {scene.ground} background"


def draw_caption(scene: Scene, rng: np.random.Generator) -> str:
    """One of the many ways to say the same scene: other words, no articles, upper case."""
    size = _choose(rng, _SIZE[scene.size])
    subject = f"{size}{scene.colour} {scene.shape}"
    article = _choose(rng, ("a ", "a ", "a ", "", "one "))
    place = _choose(rng, _PLACE[scene.position])
    ground = _choose(rng, ("on a {} background", "on a {} background", "on {}", "on a {} ground"))
    text = f"{article}{subject}{place} {ground.format(scene.ground)}"
    return text.capitalize() if rng.random() < 0.1 else text


_SIZE: dict[Size, tuple[str, ...]] = {
    "small": ("small ", "small ", "little "),
    "medium": ("", "", "", "medium "),
    "large": ("large ", "large ", "big "),
}
_PLACE: dict[Position, tuple[str, ...]] = {
    "centre": ("", "", "", " in the centre", " in the middle"),
    "left": (" on the left", " at the left"),
    "right": (" on the right", " at the right"),
    "top": (" at the top", " on the top"),
    "bottom": (" at the bottom", " on the bottom"),
}


def _choose(rng: np.random.Generator, options: tuple[str, ...]) -> str:
    return options[int(rng.integers(len(options)))]
