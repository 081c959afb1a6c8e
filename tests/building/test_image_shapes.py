from __future__ import annotations

import pytest

from sdrt.bundle.manifest import Component, FileRecord
from sdrt.families.family import Role
from sdrt.families.known import ROLES
from sdrt_engines import Signature, TensorSpec
from sdrt_engines.shape_profiles import Range
from sdrt_export.building.image_shapes import ImageShapes, ShapesWanted, profiles_of_component
from sdrt_export.errors import BuildError
from support.onnx_writer import spec

LATENTS = ("batch", 4, "height", "width")
UNET = (
    spec("sample", "float32", *LATENTS),
    spec("encoder_hidden_states", "float32", "batch", "sequence", 96),
)


def component(name: str, *inputs: TensorSpec) -> Component:
    path = f"{name}/model.onnx"
    files = (FileRecord(path, None, 1),)
    role: Role = ROLES.get(name, "controlnet" if name.startswith("controlnet") else "denoiser")
    return Component(name, role, path, Signature(inputs, ()), "float32", files)


def wanted(*shapes: str, batch: str = "1", chunks: int = 1) -> ShapesWanted:
    return ShapesWanted(tuple(map(ImageShapes.parse, shapes)), Range.parse(batch), 77, 8, chunks)


def samples(name: str, *inputs: TensorSpec, of: ShapesWanted) -> list[list[str]]:
    """The first input's ranges in each profile."""
    profiles = profiles_of_component(component(name, *inputs), of)
    return [profile.to_json()[inputs[0].name] for profile in profiles]


@pytest.mark.parametrize("name", ["unet", "unet_controlled", "controlnet_edges"])
def test_a_static_batch_runs_with_and_without_guidance(name: str) -> None:
    of = wanted("512x768", batch="2")
    assert samples(name, *UNET, of=of) == [["4", "4", "96", "64"], ["2", "4", "96", "64"]]


def test_a_range_of_batches_holds_both() -> None:
    of = wanted("512x512..1024x1024", batch="1..2..4")
    assert samples("unet", *UNET, of=of) == [["1..4..8", "4", "64..128", "64..128"]]


def test_the_text_has_the_length_of_a_prompt() -> None:
    (profile, _) = profiles_of_component(component("unet", *UNET), wanted("512x512"))
    assert profile.to_json()["encoder_hidden_states"] == ["2", "77", "96"]


@pytest.mark.parametrize(("chunks", "longer"), [(2, "154"), (4, "154..308")])
def test_longer_prompts_have_profiles_of_their_own(chunks: int, longer: str) -> None:
    of = wanted("512x512", chunks=chunks)
    profiles = profiles_of_component(component("unet", *UNET), of)
    texts = [profile.to_json()["encoder_hidden_states"] for profile in profiles]
    assert texts == [["2", "77", "96"], ["1", "77", "96"], ["2", longer, "96"], ["1", longer, "96"]]
    ids = spec("input_ids", "int64", "batch", 77)
    assert samples("text_encoder", ids, of=of) == [["1..2..2", "77"]]


def test_texts_are_encoded_once_each() -> None:
    ids = spec("input_ids", "int64", "batch", 77)
    assert samples("text_encoder", ids, of=wanted("512x512", "64x64")) == [["1..2..2", "77"]]


def test_the_vae_takes_one_image_at_a_time() -> None:
    of = wanted("512x768", batch="4")
    latents = spec("latent_sample", "float32", *LATENTS)
    image = spec("sample", "float32", "batch", 3, "height", "width")
    assert samples("vae_decoder", latents, of=of) == [["1", "4", "96", "64"]]
    assert samples("vae_encoder", image, of=of) == [["1", "3", "768", "512"]]


def test_control_images_and_residuals_follow_the_latents() -> None:
    image = spec("controlnet_cond", "float32", "batch", 3, "8*height", "8*width")
    residual = spec("mid_block_residual", "float32", "batch", 8, "ceil(height/8)", "width")
    of = wanted("504x512")
    assert samples("controlnet_x", image, of=of)[0] == ["2", "3", "512", "504"]
    assert samples("unet_controlled", residual, of=of)[0] == ["2", "8", "8", "63"]


@pytest.mark.parametrize(
    "text", ["512x512", "512x768", "512x512..512x1024", "256x256..512x512..1024x1024"]
)
def test_shapes_are_written_as_they_are_read(text: str) -> None:
    assert str(ImageShapes.parse(text)) == text


@pytest.mark.parametrize("text", ["512", "", "512x", "512x512x3", "512*512", "512x512..1024"])
def test_an_invalid_shape_is_reported(text: str) -> None:
    with pytest.raises(BuildError, match=r"--shapes"):
        ImageShapes.parse(text)


def test_impossible_shapes_are_reported() -> None:
    with pytest.raises(BuildError, match=r"--shapes 512x1024\.\.1024x512: range .*: expected MIN"):
        ImageShapes.parse("512x1024..1024x512")


@pytest.mark.parametrize("text", ["512x513", "512x512..1024x1025"])
def test_sizes_that_latents_do_not_have_are_reported(text: str) -> None:
    with pytest.raises(BuildError, match=r"height (513|1025) is not a multiple of 8: take .* or "):
        ImageShapes.parse(text).require_multiple(8)
