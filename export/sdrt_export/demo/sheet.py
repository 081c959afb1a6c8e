"""Makes the README's image with the built-in model.

python -m sdrt_export.demo.sheet docs/demo.png
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import sdrt

PROMPTS = (
    "a large red circle on a white background",
    "a blue star on a yellow background",
    "a small white heart at the top on a purple background",
    "a large black ring on the left on a cyan background",
    "a green triangle at the bottom on a white background",
    "a yellow diamond on the right on a blue background",
    "a large cyan cross on a black background",
    "a small red square on the left on a green background",
    "a large purple heart on a yellow background",
    "a white star at the bottom on a red background",
    "a black diamond on a white background",
    "a large green ring on a purple background",
)
COLUMNS, GAP = 6, 4  # images, pixels


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("output", type=Path)
    output = parser.parse_args().output
    with sdrt.Pipeline.open("demo", target="cpu") as pipeline:
        images = pipeline(PROMPTS, seed=7, num_inference_steps=20).images
    Image.fromarray(sheet([np.asarray(image) for image in images])).save(output, optimize=True)


def sheet(images: list[np.ndarray]) -> np.ndarray:
    """Images (h, w, 3) in rows of `COLUMNS`, with white gaps between them; the last row is filled
    with white.
    """
    framed = [np.pad(p, ((0, GAP), (0, GAP), (0, 0)), constant_values=255) for p in images]
    framed += [np.full_like(framed[0], 255)] * (-len(framed) % COLUMNS)
    rows = [framed[i : i + COLUMNS] for i in range(0, len(framed), COLUMNS)]
    return np.concatenate([np.concatenate(row, axis=1) for row in rows])[:-GAP, :-GAP]


if __name__ == "__main__":
    main()
