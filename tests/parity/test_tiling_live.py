"""The VAE in tiles against diffusers' `AutoencoderKL.enable_tiling`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
)

from checkpoints import tiny_pipeline
from parity.parity_images import mask, sample_image
from parity.pipeline_harness import (
    DIFFUSERS_WARNINGS,
    Ours,
    Theirs,
    assert_same,
    case,
    generated_by_diffusers,
    generated_by_us,
    pixels,
)
from sdrt.ask import answered
from sdrt.denoising.tiling import Tiling
from sdrt.denoising.vae import Autoencoder, image_from_sample
from sdrt.images.reading import array_from_image
from sdrt_engines import Array

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

RECIPES = ("classic", "v_prediction", "deep", "sample_prediction")  # 2, 3, 4 and 2 levels
OWN = Tiling(16, 4)  # what diffusers takes for these checkpoints
SIZES = {  # height and width in latents
    "columns": (9, 40),
    "rows": (41, 16),
    "remainders of one": (25, 37),
    "one more than a tile": (17, 17),
    "a tile": (16, 16),
    "less than a tile": (5, 11),
}
OTHER_TILINGS = (Tiling(8, 2), Tiling(12, 6), Tiling(20, 5))


def their_vae(recipe: str, tiling: Tiling, factor: int) -> Any:
    vae = tiny_pipeline(recipe).vae
    vae.enable_tiling()
    if tiling != OWN:
        vae.tile_latent_min_size = tiling.tile
        vae.tile_sample_min_size = tiling.tile * factor
        vae.tile_overlap_factor = tiling.overlap / tiling.tile
    return vae


def our_vae(ours: Ours, recipe: str, tiling: Tiling) -> Autoencoder:
    latents = ours(recipe).bundle.family.latents
    return Autoencoder("vae_encoder", "vae_decoder", latents, tiling)


def random_latents(vae: Autoencoder, size: tuple[int, int]) -> Array:
    random = np.random.default_rng(sum(size))
    return random.standard_normal((2, vae.latents.channels, *size), np.float32)


def assert_same_decoding(ours: Ours, recipe: str, tiling: Tiling, size: tuple[int, int]) -> None:
    vae = our_vae(ours, recipe, tiling)
    latents = random_latents(vae, size)
    unscaled = torch.from_numpy(latents / vae.latents.scaling_factor)
    theirs = their_vae(recipe, tiling, vae.latents.vae_scale_factor)
    with torch.no_grad():
        expected = [image_from_sample(sample) for sample in theirs.decode(unscaled).sample.numpy()]

    got = answered(vae.decode(latents), ours(recipe)._answer)
    assert pixels(expected).std() > 5, "a flat image proves nothing"
    assert abs(pixels(got).astype(int) - pixels(expected)).max() <= 1


def assert_same_encoding(ours: Ours, recipe: str, tiling: Tiling, size: tuple[int, int]) -> None:
    vae = our_vae(ours, recipe, tiling)
    factor, scale = vae.latents.vae_scale_factor, vae.latents.scaling_factor
    image = array_from_image(sample_image(size[1] * factor, size[0] * factor))
    with torch.no_grad():
        theirs = their_vae(recipe, tiling, factor)
        expected = theirs.encode(torch.from_numpy(2 * image - 1)).latent_dist

    got = answered(vae.encode(image), ours(recipe)._answer)
    np.testing.assert_allclose(got.mean / scale, expected.mean.numpy(), atol=1e-4)
    assert got.std is not None
    np.testing.assert_allclose(2 * np.log(got.std / scale), expected.logvar.numpy(), atol=1e-3)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("recipe", RECIPES)
def test_every_size_in_the_tiles_of_the_checkpoint(recipe: str, size: str, ours: Ours) -> None:
    assert_same_decoding(ours, recipe, OWN, SIZES[size])
    assert_same_encoding(ours, recipe, OWN, SIZES[size])


@pytest.mark.parametrize("tiling", OTHER_TILINGS, ids=str)
def test_other_tiles_and_overlaps(tiling: Tiling, ours: Ours) -> None:
    assert_same_decoding(ours, "deep", tiling, (25, 37))
    assert_same_encoding(ours, "deep", tiling, (25, 37))


def test_the_tiles_of_stable_diffusion(ours: Ours) -> None:
    """Four levels and 64 latents, as in its own VAE, with fewer channels."""
    assert_same_decoding(ours, "deep", Tiling(64, 16), (64, 113))


IMAGE, SIZE = sample_image(72, 40), {"width": 72, "height": 40}
KINDS: dict[str, tuple[Any, dict[str, Any]]] = {
    "text to image": (StableDiffusionPipeline, SIZE),
    "image to image": (StableDiffusionImg2ImgPipeline, {"image": IMAGE, "strength": 0.6}),
    "inpainting": (
        StableDiffusionInpaintPipeline,
        {"image": IMAGE, "mask_image": mask(72, 40), **SIZE},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_pipelines(kind: str, ours: Ours, theirs: Theirs) -> None:
    pipeline, options = KINDS[kind]
    request = case("classic", "euler", **options).together_with({"vae_tiling": True}, {})
    pipe = theirs("classic", "euler", pipeline, vae=their_vae("classic", OWN, 2))
    assert_same(generated_by_us(ours("classic"), request), generated_by_diffusers(pipe, request))
