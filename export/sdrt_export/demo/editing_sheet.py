"""Makes the documentation's images of editing and of previews with the built-in model.

python -m sdrt_export.demo.editing_sheet docs
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

import sdrt
from sdrt_export.demo.sheet import sheet

ORIGINAL = "a small red circle on the left on a white background"
CHANGED = "a large blue circle on a yellow background"
STRENGTHS = (0.1, 0.2, 0.4, 0.6, 0.8)
SHAPES = ("star", "heart", "triangle", "cross")  # painted into the right half, one in each image
SIZE = (128, 128)
PREVIEWED, PREVIEWED_STEPS = "a large purple star on a yellow background", (0, 1, 3, 6, 12)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", type=Path, help="for editing.png, steps.png and mask.png")
    folder = parser.parse_args().folder
    mask = right_half()
    mask.save(folder / "mask.png", optimize=True)
    with sdrt.Pipeline.open("demo", target="cpu") as pipeline:
        sheets = {"editing": edited(pipeline, mask), "steps": previews(pipeline)}
    for name, images in sheets.items():
        tiles = [np.asarray(image.convert("RGB")) for image in images]
        Image.fromarray(sheet(tiles)).save(folder / f"{name}.png", optimize=True)


def right_half() -> Image.Image:
    """A mask that is white in its right half."""
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).rectangle((SIZE[0] // 2, 0, *SIZE), fill=255)
    return mask


def edited(pipeline: sdrt.Pipeline, mask: Image.Image) -> list[Image.Image]:
    """A row of image to image, and one of inpainting; six tiles each."""
    original = pipeline(ORIGINAL, seed=7, num_inference_steps=20).images[0]
    changed = [
        pipeline(CHANGED, image=original, strength=strength, seed=7, num_inference_steps=20)
        for strength in STRENGTHS
    ]
    painted = [
        pipeline(
            f"a red {shape} on the right on a white background",
            image=original,
            mask_image=mask,
            seed=7,
            num_inference_steps=20,
        )
        for shape in SHAPES
    ]
    first, second = ([result.images[0] for result in results] for results in (changed, painted))
    return [original, *first, original, mask, *second]


def previews(pipeline: sdrt.Pipeline) -> list[Image.Image]:
    """The image that the model expects after some of the steps, and the final one."""
    stream = pipeline.stream(PREVIEWED, seed=7, num_inference_steps=20)
    images = [step.preview()[0] for step in stream if step.index in PREVIEWED_STEPS]
    return [*images, stream.result.images[0]]


if __name__ == "__main__":
    main()
