from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sdrt.bundle.folder import Bundle
from sdrt.errors import BundleError
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines import Signature, TensorSpec
from support.onnx_writer import spec
from support.toy_bundle import write_toy_bundle

WIDTH = 4  # of the toy's text states


@pytest.fixture
def toy(tmp_path: Path) -> Bundle:
    return Bundle.open(write_toy_bundle(tmp_path / "toy"))


def with_network(bundle: Bundle, name: str, *inputs: TensorSpec) -> Bundle:
    """The bundle with an additional network of these inputs; it has no file that could run."""
    signature = Signature(inputs, (spec("out", "float32", "B"),))
    like = bundle.component(name if bundle.has(name) else "unet")
    component = replace(like, name=name, signature=signature)
    components = (*bundle.manifest.components, component)
    if bundle.has(name):
        components = tuple(
            component if each.name == name else each for each in bundle.manifest.components
        )
    return replace(bundle, manifest=replace(bundle.manifest, components=components))


def test_inputs_are_as_large_as_the_bundle_s_images(toy: Bundle) -> None:
    shapes = {
        component.name: {
            name: feed.shape for name, feed in seeded_inputs(toy, component.name).items()
        }
        for component in toy.manifest.components
    }
    unet = {
        "sample": (2, 4, 16, 16),
        "timestep": (2,),
        "encoder_hidden_states": (2, 77, WIDTH),
    }
    residuals = {
        "down_block_residuals.0": (2, 4, 16, 16),
        "mid_block_residual": (2, 4, 8, 8),
    }
    assert shapes == {
        "text_encoder": {"input_ids": (2, 77)},
        "unet": unet,
        "unet_controlled": unet | residuals,
        "controlnet_edges": unet
        | {"controlnet_cond": (2, 3, 128, 128), "conditioning_scale": (2, 2)}
        | {f"earlier.{name}": shape for name, shape in residuals.items()},
        "vae_encoder": {"sample": (1, 3, 128, 128)},
        "vae_decoder": {"latent_sample": (1, 4, 16, 16)},
    }


def test_texts_are_as_long_as_the_text_encoder_s() -> None:
    demo = Bundle.open("demo")
    (ids,) = seeded_inputs(demo, "text_encoder").values()
    assert ids.shape == (2, 32)
    start = ClipTokenizer.open(demo.tokenizer_folder()).encode("").ids[0]
    assert ids[:, 0].tolist() == [start, start]
    assert seeded_inputs(demo, "unet")["encoder_hidden_states"].shape == (2, 32, 96)


def test_inputs_are_what_networks_meet(toy: Bundle) -> None:
    image = spec("controlnet_cond", "float32", "batch", 3, "8*height", "8*width")
    sample = spec("sample", "float32", "batch", 4, "height", "width")
    toy = with_network(toy, "controlnet_edges", sample, spec("timestep", "int64"), image)
    toy = with_network(toy, "vae_encoder", spec("sample", "float32", "batch", 3, "h", "w"))
    ids = seeded_inputs(toy, "text_encoder")["input_ids"]
    assert (ids.dtype, ids.min() >= 0, ids.max() > 100) == (np.dtype(np.int64), True, True)
    control = seeded_inputs(toy, "controlnet_edges")
    assert control["timestep"].shape == ()
    assert 0 <= control["timestep"] < 1000
    assert control["controlnet_cond"].shape == (2, 3, 128, 128)
    assert 0 <= control["controlnet_cond"].min() < 0.1
    assert 0.9 < control["controlnet_cond"].max() <= 1
    latents = seeded_inputs(toy, "vae_decoder")["latent_sample"]
    assert latents.std() * toy.family.latents.scaling_factor == pytest.approx(1, rel=0.05)
    pixels = seeded_inputs(toy, "vae_encoder")["sample"]
    assert pixels.shape == (1, 3, 128, 128)
    assert -1 <= pixels.min() < -0.9


def test_residuals_have_the_sizes_of_the_latents(toy: Bundle) -> None:
    toy = with_network(
        toy,
        "unet_controlled",
        spec("sample", "float32", "batch", 4, "height", "width"),
        spec("down_block_residuals.0", "float32", "batch", 8, "height", "width"),
        spec("mid_block_residual", "float32", "batch", 8, "ceil(height/2)", "ceil(width/2)"),
    )
    feeds = seeded_inputs(toy, "unet_controlled")
    assert feeds["down_block_residuals.0"].shape == (2, 8, 16, 16)
    assert feeds["mid_block_residual"].shape == (2, 8, 8, 8)


def test_a_guidance_embedding_has_its_own_width(toy: Bundle) -> None:
    sample = spec("sample", "float32", "batch", 4, "height", "width")
    toy = with_network(toy, "unet", sample, spec("timestep_cond", "float32", "batch", "width_of_w"))
    assert seeded_inputs(toy, "unet")["timestep_cond"].shape == (2, 256)  # LCM's


def test_a_controlnet_is_seen_alone(toy: Bundle) -> None:
    feeds = seeded_inputs(toy, "controlnet_edges")
    assert (feeds["conditioning_scale"] == 1).all()
    assert not feeds["earlier.mid_block_residual"].any()
    assert seeded_inputs(toy, "unet_controlled")["mid_block_residual"].all()


def test_seeds_make_inputs(toy: Bundle) -> None:
    first, again, other = (seeded_inputs(toy, "unet", seed=seed)["sample"] for seed in (0, 0, 1))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()


def test_a_network_of_another_kind_is_refused(toy: Bundle) -> None:
    toy = with_network(toy, "upscaler", spec("pixels", "float32", "N", 3))
    with pytest.raises(BundleError) as caught:
        seeded_inputs(toy, "upscaler")
    assert str(caught.value) == (
        "upscaler: input 'pixels' is float32 (N, 3), and the size of 'N' is unknown: only "
        "networks of Stable Diffusion can be verified"
    )
