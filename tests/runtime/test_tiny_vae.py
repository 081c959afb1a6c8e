"""Requests for the tiny VAE, and previews, which take it if there is one."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, Pipeline, Request
from sdrt.bundle.manifest import Component, FileRecord
from sdrt.errors import RequestError
from sdrt.families.family import LatentSpace, Role
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import Array, Resolution, Signature, Target
from support.function_networks import (
    CIRCLE,
    VAE_DECODER,
    VAE_ENCODER,
    Networks,
    encode_image,
    pixels,
)
from support.images import sample_image
from support.onnx_writer import spec

TINY_ENCODER = Signature(VAE_ENCODER.inputs, (spec("latents", "float32", "B", 4, "h", "w"),))
SPACE = LatentSpace(4, 8, scaling_factor=1.0)
SHORT: dict[str, Any] = {"num_inference_steps": 3, "seed": 1, "guidance_scale": 1}


def decode_tiny(feeds: dict[str, Array]) -> dict[str, Array]:
    """Latents as the denoiser has them, darker than the images of the model's own VAE."""
    latents = feeds["latent_sample"][:, :3] / 4 - np.float32(0.5)
    return {"sample": latents.repeat(8, axis=2).repeat(8, axis=3)}


def encode_tiny(feeds: dict[str, Array]) -> dict[str, Array]:
    return {"latents": feeds["sample"][:, [0, 1, 2, 0], ::8, ::8]}


def component(name: str, role: Role, signature: Signature) -> Component:
    model = f"{name}/model.onnx"
    record = FileRecord(model, None, 1)
    return Component(
        name, role, model, signature, "float32", (record,), variant="tiny", latents=SPACE
    )


def with_tiny_vae(bundle: Bundle) -> Bundle:
    coders = (
        component("vae_decoder_tiny", "vae decoder", VAE_DECODER),
        component("vae_encoder_tiny", "vae encoder", TINY_ENCODER),
    )
    components = (*bundle.manifest.components, *coders)
    return replace(bundle, manifest=replace(bundle.manifest, components=components))


@pytest.fixture
def networks() -> Networks:
    return Networks(
        vae_encoder=(VAE_ENCODER, encode_image),
        vae_decoder_tiny=(VAE_DECODER, decode_tiny),
        vae_encoder_tiny=(TINY_ENCODER, encode_tiny),
    )


@pytest.fixture
def pipe(folder: Path, networks: Networks) -> Pipeline:
    bundle = with_tiny_vae(Bundle.open(folder))
    return Pipeline(bundle, Resolution(Target("cpu")), networks.engines)


def test_the_tiny_vae_decodes_if_it_is_requested(pipe: Pipeline, networks: Networks) -> None:
    own, tiny = pipe(CIRCLE, **SHORT), pipe(CIRCLE, **SHORT, vae="tiny")
    assert (networks.num_runs["vae_decoder"], networks.num_runs["vae_decoder_tiny"]) == (1, 1)
    np.testing.assert_array_equal(own.latents, tiny.latents)
    (feeds,) = networks.feeds["vae_decoder_tiny"]
    np.testing.assert_array_equal(feeds["latent_sample"], tiny.latents)  # not divided
    assert tiny.timings.seconds["vae_decoder"] > 0
    assert tiny.parameters[0]["vae"] == "tiny"
    assert "vae" not in own.parameters[0]


def test_previews_take_the_tiny_vae(pipe: Pipeline, networks: Networks) -> None:
    stream = pipe.stream(CIRCLE, **SHORT, num_images_per_prompt=2)
    previews = [pixels(step.preview()) for step in stream]
    assert networks.num_runs["vae_decoder_tiny"] == 2 * len(previews)
    assert networks.num_runs["vae_decoder"] == 2
    expected = pixels(pipe(CIRCLE, **SHORT, num_images_per_prompt=2, vae="tiny").images)
    np.testing.assert_array_equal(previews[-1], expected)


@pytest.mark.parametrize("strength", [0.5, 1.0])
def test_an_image_is_encoded_without_noise(
    strength: float, pipe: Pipeline, networks: Networks
) -> None:
    image = sample_image(64, 48)
    list(pipe.stream(CIRCLE, **SHORT, image=image, strength=strength, vae="tiny"))
    assert networks.num_runs["vae_encoder"] == 0
    (feeds,) = networks.feeds["vae_encoder_tiny"]
    assert (feeds["sample"].min() < -0.5, feeds["sample"].max() > 0.5) == (True, True)


def test_the_tiny_vae_runs_on_whole_images(pipe: Pipeline, networks: Networks) -> None:
    stream = pipe.stream(
        CIRCLE, **SHORT, vae="tiny", vae_tiling=True, vae_tile_size=64, width=256, height=256
    )
    list(stream)
    assert networks.num_runs["vae_decoder_tiny"] == 1
    (note,) = (note for note in stream.result.notes if note.code == "vae_not_tiled")
    assert "vae_tiling: has no effect with vae=tiny: it runs on the whole image" in str(note)
    assert stream.result.request.vae_tiling is False
    assert stream.result.request.vae_tile_size is None


def test_a_refined_image_is_decoded_by_the_bundle_s_tiny_vae(folder: Path) -> None:
    plain = Networks()
    refiner = {f"refiner.{name}": engine for name, engine in plain.engines.items()}
    networks = Networks(vae_decoder_tiny=(VAE_DECODER, decode_tiny))
    bundle = with_tiny_vae(Bundle.open(folder)).refined_by(Bundle.open(folder))
    pipe = Pipeline(bundle, Resolution(Target("cpu")), networks.engines | refiner)
    list(pipe.stream(CIRCLE, **SHORT, vae="tiny"))
    assert networks.num_runs["vae_decoder_tiny"] == 1
    assert plain.num_runs["vae_decoder"] == 0
    assert plain.num_runs["unet"] == 1


def test_a_bundle_without_one_says_how_to_add_it(folder: Path) -> None:
    pipe = Pipeline(Bundle.open(folder), Resolution(Target("cpu")), Networks().engines)
    with pytest.raises(
        RequestError,
        match=r"^vae: got 'tiny', but this bundle has no tiny VAE: add one with `sdrt export "
        r"--tiny-vae PATH --into ",
    ):
        pipe.resolve(Request(CIRCLE, vae="tiny"))
    demo = Pipeline(Bundle.open("demo"), Resolution(Target("cpu")), Networks().engines)
    with pytest.raises(RequestError, match=r"`sdrt export demo --tiny-vae PATH -o BUNDLE`$"):
        demo.resolve(Request(CIRCLE, vae="tiny"))  # --into would refuse it


def test_it_is_verified_on_latents_of_its_own_scale(folder: Path) -> None:
    bundle = with_tiny_vae(Bundle.open(folder))
    own, tiny = (
        seeded_inputs(bundle, name)["latent_sample"] for name in ("vae_decoder", "vae_decoder_tiny")
    )
    np.testing.assert_allclose(tiny, own * bundle.family.latents.scaling_factor, rtol=1e-5)


def test_memory_is_forecast_for_the_vae_that_runs(pipe: Pipeline) -> None:
    work = pipe.generation(Request(CIRCLE, **SHORT, vae="tiny")).job.work
    assert "vae_decoder_tiny" in work.rows
    assert "vae_decoder" not in work.rows
