"""The random numbers of `torch.Generator("cpu").manual_seed(seed)` and `torch.randn`, in numpy.

Source: ATen's `DistributionTemplates.h` and `MT19937RNGEngine.h`. Values equal torch's within 1e-6:
the two round logarithm, sine and cosine to float32 differently.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from sdrt.errors import RequestError
from sdrt_engines import Array

BLOCK = 16  # torch fills blocks of 16: eight cosines, then eight sines; fewer values one by one
TWO_PI = np.float32(2 * math.pi)
UNIT = np.float32(2**-24)


class TorchNoise:
    """A stream of standard normals, equal to torch's for this seed, in the same order.

    `seed` is 0 to 2**64 - 1 (`RequestError` otherwise); as in torch, its low 32 bits count.
    """

    def __init__(self, seed: int) -> None:
        if not 0 <= seed < 2**64:
            raise RequestError(f"seed: got {seed}, expected 0 to {2**64 - 1}")
        self._words = np.random.RandomState(seed & 0xFFFFFFFF)  # MT19937, seeded as torch seeds it
        self._second: float | None = None  # the unused half of a small draw's last pair

    def normal(self, shape: tuple[int, ...]) -> Array:
        """The next `torch.randn(shape)`: float32 of `shape`."""
        size = math.prod(shape)
        values = self._large(size) if size >= BLOCK else self._small(size)
        return values.reshape(shape)

    def _large(self, size: int) -> Array:
        values = self._uniform(size)
        whole = size - size % BLOCK
        values[:whole] = box_muller_blocks(values[:whole])
        if whole < size:
            # torch then draws the last 16 again and overwrites values that it had drawn
            values[-BLOCK:] = box_muller_blocks(self._uniform(BLOCK))
        return values

    def _small(self, size: int) -> Array:
        return np.asarray([self._one() for _ in range(size)], np.float32)

    def _one(self) -> float:
        """One value of a small draw, computed in float64. The other one of the pair is kept."""
        if self._second is not None:
            value, self._second = self._second, None
            return value
        u1, u2 = self._uniform64(), self._uniform64()
        radius, angle = math.sqrt(-2 * math.log1p(-u2)), 2 * math.pi * u1
        self._second = radius * math.sin(angle)
        return radius * math.cos(angle)

    def _uniform(self, size: int) -> Array:
        """Uniforms in [0, 1) with 24 bits, the precision of float32."""
        words = self._words.randint(0, 2**32, size, np.uint32)
        return (words & np.uint32(2**24 - 1)).astype(np.float32) * UNIT

    def _uniform64(self) -> float:
        """A uniform in [0, 1) with 53 bits from two words, the high one first."""
        high, low = (int(word) for word in self._words.randint(0, 2**32, 2, np.uint32))
        return ((high << 32 | low) & (2**53 - 1)) / 2**53


class BatchNoise:
    """One stream per image of a batch, so that an image is the same alone and in a batch.

    Equal to the noise of diffusers for a list of generators. `seeds` are as for `TorchNoise`.
    """

    def __init__(self, seeds: Sequence[int]) -> None:
        self._streams = tuple(TorchNoise(seed) for seed in seeds)

    def normal(self, shape_of_one: tuple[int, ...]) -> Array:
        """Each stream's next draw, (B, C, h, w) float32; `shape_of_one` is (1, C, h, w)."""
        return np.concatenate([stream.normal(shape_of_one) for stream in self._streams])


def box_muller_blocks(uniform: Array) -> Array:
    """Normals from uniforms in [0, 1), sixteen at a time as torch's `normal_fill` makes them.

    The size is a multiple of 16.
    """
    u1, u2 = uniform.reshape(-1, 2, BLOCK // 2).swapaxes(0, 1)  # (blocks, 8) each
    radius = np.sqrt(np.float32(-2) * np.log(np.float32(1) - u1))
    angle = TWO_PI * u2
    return np.concatenate([radius * np.cos(angle), radius * np.sin(angle)], axis=1).ravel()
