"""Tiles of an image, and their seams."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdrt.ask import Answer, Ask, Run, answered
from sdrt.denoising.tiling import Tile, Tiling, tile_from_config, with_halves
from sdrt.denoising.vae import Autoencoder
from sdrt.errors import BundleError
from sdrt.families.family import LatentSpace
from sdrt.files.json_fields import JsonFields
from sdrt_engines import Array

SPACE = LatentSpace(3, 4, 1.0)


def autoencoder(tiling: Tiling | None) -> Autoencoder:
    return Autoencoder("vae_encoder", "vae_decoder", SPACE, tiling)


def coarse(ask: Ask) -> Answer:
    """A VAE whose latents are the image, each pixel four by four times."""
    (array,) = ask.chain[0].changing.values()
    if ask.outputs == ("sample",):
        return Answer({"sample": array.repeat(4, axis=2).repeat(4, axis=3)})
    return Answer({"latent_parameters": np.concatenate([array[..., ::4, ::4]] * 2, axis=1)})


def constant_tiles(*values: float) -> Run:
    """A VAE whose first run gives the first value everywhere, and so on."""
    following = iter(values)

    def run(ask: Ask) -> Answer:
        value, array = next(following), coarse(ask).outputs[ask.outputs[0]]
        return Answer({ask.outputs[0]: np.full_like(array, value)})

    return run


def latents(height: int, width: int) -> Array:
    random = np.random.default_rng(height * 100 + width)
    return random.uniform(-1, 1, (1, 3, height, width)).astype(np.float32)


def test_tiles_cover_the_image_row_by_row() -> None:
    assert list(Tiling(8, 2).tiles(9, 15)) == [
        Tile(0, 0, 8, 8),
        Tile(0, 6, 8, 14),
        Tile(0, 12, 8, 15),
        Tile(6, 0, 9, 8),
        Tile(6, 6, 9, 14),
        Tile(6, 12, 9, 15),
    ]


@settings(derandomize=True, deadline=None, max_examples=40)
@given(
    st.integers(1, 30),
    st.integers(1, 30),
    st.sampled_from([(8, 2), (8, 6), (4, 1), (5, 2), (6, 0)]),
)
def test_tiles_of_a_network_without_context_are_the_whole(
    height: int, width: int, sides: tuple[int, int]
) -> None:
    tiled, whole = autoencoder(Tiling(*sides)), autoencoder(None)
    latent = latents(height, width)
    (image,) = answered(tiled.decode(latent), coarse)
    (expected,) = answered(whole.decode(latent), coarse)
    assert image.size == (4 * width, 4 * height)
    np.testing.assert_array_equal(image, expected)

    pixels = latent.repeat(4, axis=2).repeat(4, axis=3)
    posterior = answered(tiled.encode(pixels), coarse)
    exact = answered(whole.encode(pixels), coarse)
    np.testing.assert_allclose(posterior.mean, exact.mean, atol=1e-6)
    assert posterior.std is not None
    assert exact.std is not None
    np.testing.assert_allclose(posterior.std, exact.std, atol=1e-6)


def test_each_tile_fades_in() -> None:
    """By a linear ramp that begins with the earlier tile alone."""
    (image,) = answered(
        autoencoder(Tiling(4, 2)).decode(latents(4, 5)), constant_tiles(-1, 1, 1, -1, 1, 1)
    )
    ramp = [round(255 * i / 8) for i in range(8)]
    np.testing.assert_array_equal(np.asarray(image)[0, :, 0], [0] * 8 + ramp + [255] * 4)


def test_parameters_are_blended_before_the_noise_is_added() -> None:
    posterior = answered(
        autoencoder(Tiling(4, 2)).encode(np.zeros((1, 3, 8, 20), np.float32)),
        constant_tiles(2, 4, 4),
    )
    np.testing.assert_allclose(posterior.mean[0, 0, 0], [2, 2, 2, 3, 4])
    assert posterior.std is not None
    np.testing.assert_allclose(posterior.std[0, 0, 0], np.exp([1, 1, 1, 1.5, 2]), rtol=1e-6)


def test_runs_of_one_shape_can_be_joined() -> None:
    keys = []

    def run(ask: Ask) -> Answer:
        keys.append(ask.key)
        return coarse(ask)

    answered(autoencoder(Tiling(8, 2)).decode(latents(14, 21)), run)
    assert len(keys) == 12
    assert len(set(keys)) == 4  # the middle, the right, the bottom and the corner


def test_small_images_are_not_divided() -> None:
    asks = []

    def run(ask: Ask) -> Answer:
        asks.append(ask)
        return coarse(ask)

    answered(autoencoder(Tiling(8, 2)).decode(latents(8, 5)), run)
    assert len(asks) == 1


def test_only_the_overlaps_of_one_row_are_kept() -> None:
    """The image itself, which Pillow holds, is not counted here."""
    vae, height = autoencoder(Tiling(8, 2)), 640

    def peak(height: int) -> int:
        latent = np.zeros((1, 3, height, 40), np.float32)
        tracemalloc.start()
        answered(vae.decode(latent), coarse)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(16)
    latents_size = height * 40 * 3 * 4
    assert peak(height) - peak(16) < 2 * latents_size  # the result has 16 times as many numbers


@pytest.mark.parametrize(
    ("config", "tile"),
    [
        ({"sample_size": 512}, 128),
        ({"sample_size": [768, 512]}, 192),
        ({"sample_size": None}, 8),
        ({}, 8),  # AutoencoderKL's default is 32
        ({"sample_size": 2}, 4),
        ({"sample_size": 10**9}, 2048),
    ],
)
def test_the_tile_of_a_checkpoint(config: dict[str, Any], tile: int) -> None:
    assert tile_from_config(JsonFields(config), SPACE) == tile


@pytest.mark.parametrize("size", ["512", [], 0.5, True])
def test_a_malformed_size(size: Any) -> None:
    with pytest.raises(BundleError, match=r"sample_size: got .*, expected an integer"):
        tile_from_config(JsonFields({"sample_size": size}), SPACE)


def test_smaller_tiles_still_see_enough() -> None:
    assert list(with_halves(128)) == [128, 64, 32]
    assert list(with_halves(63)) == [63]
    assert list(with_halves(4)) == [4]
