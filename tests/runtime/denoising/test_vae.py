"""Pictures to latents and back."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.denoising.vae import Posterior, Scaling, decode, encode
from sdrt.errors import NonFiniteError
from sdrt.images.reading import array_from_image
from sdrt_engines import FunctionEngine, Signature
from support.onnx_writer import spec
from support.pictures import picture

ENCODER = Signature(
    (spec("sample", "float32", "B", 3, "H", "W"),),
    (spec("latent_parameters", "float32", "B", 6, "H", "W"),),
)
DECODER = Signature(
    (spec("latent_sample", "float32", "B", 3, "H", "W"),),
    (spec("sample", "float32", "B", 3, "H", "W"),),
)


def encoder(log_variance: float) -> FunctionEngine:
    """A VAE whose latents are the picture."""

    def parameters(feeds: dict) -> dict:
        mean = feeds["sample"]
        return {"latent_parameters": np.concatenate([mean, np.full_like(mean, log_variance)], 1)}

    return FunctionEngine(ENCODER, parameters)


DECODE = FunctionEngine(DECODER, lambda feeds: {"sample": feeds["latent_sample"]})


def test_the_posterior_is_scaled_for_the_unet() -> None:
    pixels = array_from_image(picture(6, 4))
    posterior = encode(encoder(np.log(4)), pixels, Scaling(0.5, shift=0.25))
    np.testing.assert_allclose(posterior.mean, (2 * pixels - 1 - 0.25) * 0.5, atol=1e-6)
    np.testing.assert_allclose(posterior.std, 2 * 0.5, rtol=1e-6)  # the shift moves no spread
    assert posterior.mean.dtype == posterior.std.dtype == np.float32


@pytest.mark.parametrize(("given", "used"), [(-1e9, -30), (1e9, 20)])
def test_variances_are_kept_in_bounds(given: float, used: float) -> None:
    posterior = encode(encoder(given), array_from_image(picture(2, 2)), Scaling(1))
    np.testing.assert_allclose(posterior.std, np.exp(used / 2), rtol=1e-5)


def test_each_image_of_a_batch_has_its_own_sample() -> None:
    posterior = Posterior(np.ones((1, 3, 2, 2), np.float32), np.full((1, 3, 2, 2), 2, np.float32))
    noise = np.random.default_rng(0).standard_normal((4, 3, 2, 2), np.float32)
    sample = posterior.sample(noise)
    assert sample.dtype == np.float32
    np.testing.assert_allclose(sample, 1 + 2 * noise)


def test_decoding_undoes_encoding() -> None:
    image, scaling = picture(8, 8), Scaling(0.13, shift=0.5)
    mean = encode(encoder(0), array_from_image(image), scaling).mean
    np.testing.assert_array_equal(decode(DECODE, mean, scaling), image)


def test_what_leaves_the_range_is_cut_off() -> None:
    latent = np.array([-9, -1, 1, 9], np.float32) * np.ones((1, 3, 2, 1), np.float32)
    image = decode(DECODE, latent, Scaling(1))
    np.testing.assert_array_equal(np.asarray(image)[0, :, 0], [0, 0, 255, 255])


def test_nan_is_no_picture() -> None:
    nan = np.full((1, 3, 2, 2), np.nan, np.float32)
    with pytest.raises(NonFiniteError, match=r"^vae_decoder: 12 of 12 output values"):
        decode(DECODE, nan, Scaling(1))
    with pytest.raises(NonFiniteError, match=r"^vae_encoder: 12 of 24 output values"):
        encode(encoder(0), nan, Scaling(1))
