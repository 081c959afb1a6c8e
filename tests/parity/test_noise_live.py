"""TorchNoise against a live torch.Generator("cpu")."""

import numpy as np
import pytest
import torch

from sdrt.denoising.noise import BatchNoise, TorchNoise

pytestmark = pytest.mark.parity
torch.set_num_threads(1)

SEEDS = [0, 1, 7, 2**31, 2**32 - 1, 2**32, 2**32 + 7, 2**63, 2**64 - 1]


def pair(seed: int) -> tuple[TorchNoise, torch.Generator]:
    return TorchNoise(seed), torch.Generator("cpu").manual_seed(seed)


def assert_same_draw(
    stream: TorchNoise, generator: torch.Generator, shape: tuple[int, ...]
) -> None:
    expected = torch.randn(shape, generator=generator).numpy()
    np.testing.assert_allclose(stream.normal(shape), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("size", range(41))
def test_sizes_around_a_block(size: int) -> None:
    stream, generator = pair(size)
    for _ in range(3):
        assert_same_draw(stream, generator, (size,))


@pytest.mark.parametrize("seed", SEEDS)
def test_seeds_and_draws_of_mixed_sizes(seed: int) -> None:
    stream, generator = pair(seed)
    for size in [1, 4 * 64 * 64, 1, 3, 16, 2, 7, 17, 40, 1, 15, 1000]:
        assert_same_draw(stream, generator, (size,))


def test_a_batch_is_a_list_of_generators() -> None:
    seeds = [7, 8, 9, 2**40 + 5]
    generators = [torch.Generator("cpu").manual_seed(seed) for seed in seeds]
    batch = BatchNoise(seeds)
    for _ in range(2):
        drawn = torch.cat([torch.randn((1, 4, 64, 64), generator=each) for each in generators])
        np.testing.assert_allclose(batch.normal((1, 4, 64, 64)), drawn.numpy(), rtol=0, atol=1e-6)
