"""Makes the README's image of outlines and the built-in model's results.

python -m sdrt_export.demo.control_sheet docs/control.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

import sdrt
from sdrt_export.demo.drawing import Placement
from sdrt_export.demo.outlines import Figure, OutlineImage, image_from_outlines
from sdrt_export.demo.sheet import sheet

# Prompts ask for another shape and place: the outline wins, the colours follow the prompt.
PAIRS = (
    (Figure("square", Placement((64, 64), 32)), "a blue star on a yellow background"),
    (Figure("heart", Placement((44, 50), 32, -0.25)), "a red circle on a white background"),
    (Figure("star", Placement((82, 74), 36, 0.3)), "a large white ring on a purple background"),
    (
        Figure("ring", Placement((60, 58), 40)),
        "a green diamond at the bottom on a black background",
    ),
    (Figure("cross", Placement((78, 44), 28, 0.2)), "a small yellow heart on a blue background"),
    (
        Figure("triangle", Placement((52, 78), 38, -0.1)),
        "a cyan square at the top on a red background",
    ),
)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    outlines = [image_from_outlines(figure.outlines) for figure, _ in PAIRS]
    with sdrt.Pipeline.open("demo", target="cpu") as pipeline:
        results = [
            pipeline(
                prompt,
                control={"edges": sdrt.Control(Image.fromarray(outline))},
                seed=7,
                num_inference_steps=20,
            ).images[0]
            for outline, (_, prompt) in zip(outlines, PAIRS, strict=True)
        ]
    pairs = zip(outlines, map(np.asarray, results), strict=True)
    Image.fromarray(control_sheet(list(pairs))).save(output, optimize=True)


def control_sheet(
    pairs: list[tuple[OutlineImage, npt.NDArray[np.uint8]]],
) -> npt.NDArray[np.uint8]:
    """Outlines and results side by side, three such pairs per row."""
    tiles = [tile for outline, result in pairs for tile in (in_colour(outline), result)]
    return sheet(tiles)


def in_colour(outline: OutlineImage) -> npt.NDArray[np.uint8]:
    """The same image (128, 128) with three channels."""
    return np.repeat(outline[..., None], 3, axis=2)


if __name__ == "__main__":
    main()
