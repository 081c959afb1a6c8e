"""The demo's VAE in tiles: no visible seams, and no more memory than a tile takes."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import sdrt
from sdrt.ask import answered
from sdrt.targets.evaluation import checked_answer

SIDE, OVERLAP = 256, 32  # pixels; the VAE's tiles have 128
STARTS = (96, 192)  # of tiles after the first
VISIBLE = 2  # of 255
PROMPTS = (
    "a large red circle on a white background",
    "a green square on a yellow background",
)
# Of the demo's VAE: the peaks of a decoder that runs on one tile, and on a large image in tiles.
PEAK = """
import json, sys
import numpy as np
import sdrt
from sdrt.ask import answered
from sdrt.denoising.tiling import Tiling
from sdrt.denoising.vae import Autoencoder
from sdrt.targets.evaluation import checked_answer
from sdrt_engines.operating_system import peak_memory

with sdrt.Pipeline.open("demo", "cpu", num_threads=1) as pipe:
    space, size = pipe.bundle.family.latents, int(sys.argv[1])
    vae = Autoencoder("vae_encoder", "vae_decoder", space, Tiling.of(64))
    pipe.engines["vae_decoder"]
    opened = peak_memory()
    latents = np.zeros(space.shape_of((size, size)), np.float32)
    answered(vae.decode(latents), lambda ask: checked_answer(ask, pipe.engines))
print(json.dumps(peak_memory() - opened))
"""


@pytest.fixture(scope="module")
def pipeline() -> Iterator[sdrt.Pipeline]:
    with sdrt.Pipeline.open("demo", target="cpu", num_threads=1) as pipeline:
        yield pipeline


def overlaps() -> npt.NDArray[np.bool_]:
    """The rows or columns that belong to more than one tile."""
    shared = np.zeros(SIDE, bool)
    for start in STARTS:
        shared[start : start + OVERLAP] = True
    return shared


def jumps(difference: npt.NDArray[np.int_]) -> npt.NDArray[np.float64]:
    """The mean change of a difference (H, W, 3) from each column to the next."""
    changes = abs(np.diff(difference, axis=1, prepend=difference[:, :1]))
    return np.asarray(changes.mean(axis=(0, 2)))


@pytest.mark.parametrize("prompt", PROMPTS)
def test_seams_differ_hardly_more_than_the_rest(pipeline: sdrt.Pipeline, prompt: str) -> None:
    options: Any = {"width": SIDE, "height": SIDE, "num_inference_steps": 6, "seed": 1}
    stream = pipeline.stream(prompt, **options)
    list(stream)
    whole = np.asarray(stream.result.images[0]).astype(int)
    in_tiles = pipeline.generation(sdrt.Request(prompt, **options, vae_tiling=True)).job
    (image,) = answered(
        in_tiles.autoencoder.decode(stream.result.latents),
        lambda ask: checked_answer(ask, pipeline.engines),
    )
    difference = np.asarray(image).astype(int) - whole
    assert difference.any(), "tiles see less of the image"
    seams = overlaps()[:, None] | overlaps()
    sizes = abs(difference).mean(axis=2)
    assert sizes[seams].mean() - sizes[~seams].mean() <= VISIBLE
    for along in (difference, difference.transpose(1, 0, 2)):
        found = jumps(along)
        assert max(found[list(STARTS)]) - found.mean() <= VISIBLE


@pytest.mark.full
def test_memory_is_that_of_a_tile() -> None:
    tile, image = (
        json.loads(subprocess.check_output([sys.executable, "-c", PEAK, str(size)]))
        for size in (512, 1184)
    )
    assert image <= 1.2 * (tile + 4 * 1184**2)  # Pillow keeps four bytes for a pixel
