"""Images to latents and back."""

from __future__ import annotations

import numpy as np
import pytest
from PIL.Image import Image

from sdrt.ask import answered
from sdrt.denoising.vae import Autoencoder, Posterior
from sdrt.families.family import LatentSpace
from sdrt.images.reading import array_from_image
from sdrt_engines import Array, FunctionEngine, Signature
from support.asking import run_on
from support.images import sample_image
from support.onnx_writer import spec

ENCODER = Signature(
    (spec("sample", "float32", "B", 3, "H", "W"),),
    (spec("latent_parameters", "float32", "B", 6, "H", "W"),),
)
DECODER = Signature(
    (spec("latent_sample", "float32", "B", 3, "H", "W"),),
    (spec("sample", "float32", "B", 3, "H", "W"),),
)


def encoder(log_variance: float) -> FunctionEngine:
    """A VAE whose latents are the image."""

    def parameters(feeds: dict[str, Array]) -> dict[str, Array]:
        mean = feeds["sample"]
        return {"latent_parameters": np.concatenate([mean, np.full_like(mean, log_variance)], 1)}

    return FunctionEngine(ENCODER, parameters)


DECODE = FunctionEngine(DECODER, lambda feeds: {"sample": feeds["latent_sample"]})


def encoded(pixels: Array, space: LatentSpace, log_variance: float = 0) -> Posterior:
    vae = Autoencoder("vae_encoder", "vae_decoder", space)
    return answered(vae.encode(pixels), run_on(vae_encoder=encoder(log_variance)))


def decoded(latents: Array, space: LatentSpace) -> tuple[Image, ...]:
    vae = Autoencoder("vae_encoder", "vae_decoder", space)
    return answered(vae.decode(latents), run_on(vae_decoder=DECODE))


def test_the_posterior_is_scaled_for_the_denoiser() -> None:
    pixels = array_from_image(sample_image(6, 4))
    posterior = encoded(pixels, LatentSpace(3, 1, 0.5, shift_factor=0.25), np.log(4))
    np.testing.assert_allclose(posterior.mean, (2 * pixels - 1 - 0.25) * 0.5, atol=1e-6)
    assert posterior.std is not None
    np.testing.assert_allclose(posterior.std, 2 * 0.5, rtol=1e-6)  # without the shift
    assert posterior.mean.dtype == np.float32
    assert posterior.std.dtype == np.float32


def test_channels_may_have_scales_of_their_own() -> None:
    space = LatentSpace(3, 1, 0.5, mean=(0.1, 0.2, 0.3), std=(1.0, 2.0, 4.0))
    pixels = array_from_image(sample_image(6, 4))
    posterior = encoded(pixels, space)
    mean, std = (np.array(values)[:, None, None] for values in (space.mean, space.std))
    np.testing.assert_allclose(posterior.mean, (2 * pixels - 1 - mean) * 0.5 / std, atol=1e-6)
    assert posterior.std is not None
    np.testing.assert_allclose(posterior.std, np.broadcast_to(0.5 / std, pixels.shape), rtol=1e-6)
    (image,) = decoded(posterior.mean, space)
    np.testing.assert_array_equal(image, sample_image(6, 4))


@pytest.mark.parametrize(("given", "used"), [(-1e9, -30), (1e9, 20)])
def test_variances_are_kept_in_bounds(given: float, used: float) -> None:
    posterior = encoded(array_from_image(sample_image(2, 2)), LatentSpace(3, 1, 1.0), given)
    assert posterior.std is not None
    np.testing.assert_allclose(posterior.std, np.exp(used / 2), rtol=1e-5)


def test_each_image_of_a_batch_has_its_own_sample() -> None:
    posterior = Posterior(np.ones((1, 3, 2, 2), np.float32), np.full((1, 3, 2, 2), 2, np.float32))
    noise = np.random.default_rng(0).standard_normal((4, 3, 2, 2), np.float32)
    sample = posterior.sample(lambda: noise)
    assert sample.dtype == np.float32
    np.testing.assert_allclose(sample, 1 + 2 * noise)


def test_latents_without_a_distribution_are_certain() -> None:
    signature = Signature(ENCODER.inputs, (spec("latents", "float32", "B", 3, "H", "W"),))
    engine = FunctionEngine(signature, lambda feeds: {"latents": feeds["sample"]})
    vae = Autoencoder("tiny", "vae_decoder", LatentSpace(3, 1, 2.0, 0.25), variational=False)
    pixels = array_from_image(sample_image(6, 4))
    posterior = answered(vae.encode(pixels), run_on(tiny=engine))
    sample = posterior.sample(lambda: pytest.fail("noise was drawn"))
    np.testing.assert_allclose(sample, (2 * pixels - 1 - 0.25) * 2, atol=1e-6)
    assert sample.dtype == np.float32


def test_decoding_undoes_encoding() -> None:
    images, space = [sample_image(8, 8, seed=seed) for seed in (0, 1)], LatentSpace(3, 1, 0.13, 0.5)
    latents = np.concatenate([encoded(array_from_image(image), space).mean for image in images])
    for image, got in zip(images, decoded(latents, space), strict=True):
        np.testing.assert_array_equal(got, image)


def test_what_leaves_the_range_is_cut_off() -> None:
    latent = np.array([-9, -1, 1, 9], np.float32) * np.ones((1, 3, 2, 1), np.float32)
    (image,) = decoded(latent, LatentSpace(3, 1, 1.0))
    np.testing.assert_array_equal(np.asarray(image)[0, :, 0], [0, 0, 255, 255])
