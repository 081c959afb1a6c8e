"""Torch's documented CPU normals; tests/parity/test_noise_live.py compares with a live torch."""

import time

import numpy as np
import pytest

from sdrt.denoising.noise import BatchNoise, TorchNoise
from sdrt.errors import RequestError


@pytest.mark.parametrize(
    "size, first",
    [
        (16, [-1.1258, -1.1524, -0.2506, -0.4339, 0.8487, 0.6920]),  # eight cosines, eight sines
        (6, [1.5410, -0.2934, -2.1788, 0.5684, -1.0845, -1.3986]),  # pair by pair
    ],
)
def test_seed_zero_gives_the_well_known_values(size: int, first: list[float]) -> None:
    values = TorchNoise(0).normal((size,))
    assert values.shape == (size,) and values.dtype == np.float32
    np.testing.assert_allclose(values[:6], first, atol=5e-5)


def test_a_small_draws_second_half_waits_for_the_next_small_draw() -> None:
    stream, whole = TorchNoise(0), TorchNoise(0).normal((2,))
    first = stream.normal((1,))
    stream.normal((16,))
    assert [first[0], stream.normal((1,))[0]] == whole.tolist()


def test_a_ragged_draw_ends_in_sixteen_fresh_values() -> None:
    ragged, even = TorchNoise(3).normal((20,)), TorchNoise(3).normal((16,))
    np.testing.assert_array_equal(ragged[:4], even[:4])
    assert not np.isclose(ragged[4:16], even[4:]).any()


def test_draws_of_the_same_stream_differ() -> None:
    stream = TorchNoise(7)
    assert not np.array_equal(stream.normal((4, 8, 8)), stream.normal((4, 8, 8)))


def test_the_low_32_bits_of_the_seed_count() -> None:
    np.testing.assert_array_equal(TorchNoise(2**32 + 7).normal((32,)), TorchNoise(7).normal((32,)))
    np.testing.assert_array_equal(
        TorchNoise(2**64 - 1).normal((32,)), TorchNoise(2**32 - 1).normal((32,))
    )
    assert not np.array_equal(TorchNoise(2**31).normal((32,)), TorchNoise(0).normal((32,)))


@pytest.mark.parametrize("seed", [-1, 2**64])
def test_a_seed_out_of_range_is_refused(seed: int) -> None:
    with pytest.raises(RequestError, match=f"seed: got {seed}, expected 0 to 18446744073709551615"):
        TorchNoise(seed)
    with pytest.raises(RequestError, match=f"seed: got {seed}"):
        BatchNoise([0, seed])


def test_each_image_of_a_batch_is_the_same_alone() -> None:
    batch = BatchNoise([5, 6, 7])
    first, second = batch.normal((1, 4, 8, 8)), batch.normal((1, 4, 8, 8))
    alone = TorchNoise(6)
    assert first.shape == (3, 4, 8, 8) and first.dtype == np.float32
    np.testing.assert_array_equal(first[1:2], alone.normal((1, 4, 8, 8)))
    np.testing.assert_array_equal(second[1:2], alone.normal((1, 4, 8, 8)))


def test_many_values_are_standard_normal() -> None:
    values = TorchNoise(11).normal((4, 256, 256))
    assert abs(values.mean()) < 0.01 and abs(values.std() - 1) < 0.01
    assert abs((values**3).mean()) < 0.03 and abs((values**4).mean() - 3) < 0.06


def test_a_latents_noise_takes_under_two_milliseconds() -> None:
    stream, seconds = TorchNoise(0), []
    for _ in range(20):
        start = time.perf_counter()
        stream.normal((1, 4, 64, 64))
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 0.002
