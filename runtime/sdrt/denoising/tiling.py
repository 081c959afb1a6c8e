"""Tiles: overlapping parts of an image on which a VAE runs one by one, with blended seams.

The memory of a run then depends on the tile instead of the image. Norms and attention see their
tile alone, so the result differs slightly from that of a run on the whole image.

Source: diffusers 0.39, `AutoencoderKL.tiled_decode` and `_tiled_encode`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sdrt.families.family import LatentSpace
from sdrt.files.json_fields import JsonFields
from sdrt.parameters import MAX_SIDE
from sdrt_engines import Array

MIN_TILE = 4  # latents, with an overlap of one
_SMALLEST = 32  # latents, if memory chooses: in smaller tiles, norms see too little of the image
_SAMPLE_SIZE = 32  # pixels: AutoencoderKL's default


@dataclass(frozen=True)
class Tile:
    """One tile of an image, in latents."""

    top: int
    left: int
    bottom: int
    right: int

    def of(self, array: Array, scale: int = 1) -> Array:
        """This part of an array (…, h·scale, w·scale)."""
        top, left, bottom, right = (
            side * scale for side in (self.top, self.left, self.bottom, self.right)
        )
        return array[..., top:bottom, left:right]


@dataclass(frozen=True)
class Tiling:
    """Square tiles, each of which overlaps with the next ones. Sides are in latents."""

    tile: int
    overlap: int

    @classmethod
    def of(cls, tile: int) -> Tiling:
        """Tiles that overlap by a quarter."""
        return cls(tile, overlap=-(-tile // 4))

    @property
    def step(self) -> int:
        """The distance from one tile to the next."""
        return self.tile - self.overlap

    def divides(self, height: int, width: int) -> bool:
        """True if latents of this size are more than one tile."""
        return max(height, width) > self.tile

    def tiles(self, height: int, width: int) -> Iterator[Tile]:
        """The tiles of latents, row by row; those at the bottom and on the right may be smaller."""
        for top in range(0, height, self.step):
            bottom = min(top + self.tile, height)
            for left in range(0, width, self.step):
                yield Tile(top, left, bottom, min(left + self.tile, width))


class Seams:
    """Blends the results of tiles, which come row by row: each fades in from those above it and on
    its left. `scale` is the size of a latent in the results.

    Holds the overlaps of one row of tiles.
    """

    def __init__(self, tiling: Tiling, scale: int) -> None:
        self._step = tiling.step * scale
        self._above: dict[int, Array] = {}  # by the tile's left edge
        self._before: Array = np.empty(0, np.float32)

    def finished(self, tile: Tile, result: Array) -> Array:
        """The part of a tile's result (…, h, w) into which no later tile fades."""
        result = result.copy()
        if tile.top:
            _fade(self._above[tile.left], result, axis=-2)
        if tile.left:
            _fade(self._before, result, axis=-1)
        self._above[tile.left] = result[..., self._step :, :].copy()
        self._before = result[..., self._step :]
        return result[..., : self._step, : self._step]


def _fade(earlier: Array, result: Array, axis: int) -> None:
    """Fades linearly from `earlier` to the result, in place and along one axis."""
    length = earlier.shape[axis]
    earlier, start = earlier.swapaxes(axis, -1), result.swapaxes(axis, -1)[..., :length]
    ramp = np.arange(length, dtype=np.float32) / length
    start += (earlier - start) * (1 - ramp)  # which leaves equal results as they are


def tile_from_config(vae: JsonFields, latents: LatentSpace) -> int:
    """The side in latents of the tiles that diffusers takes for an `AutoencoderKL`."""
    size = vae.values.get("sample_size")
    first = JsonFields({"sample_size": size[0] if isinstance(size, list) and size else size})
    pixels = first.integer("sample_size", _SAMPLE_SIZE)
    return max(min(pixels, MAX_SIDE) // latents.vae_scale_factor, MIN_TILE)


def with_halves(tile: int) -> Iterator[int]:
    """The tile, and smaller ones for less memory that still see enough of the image."""
    yield tile
    while (tile := tile // 2) >= _SMALLEST:
        yield tile
