"""Every network of a bundle against diffusers and transformers themselves, at sizes that were never
traced."""

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline

from checkpoints import tiny_pipeline
from recipes import RECIPES
from sdrt_export.networks.network import Network, TraceSize
from sdrt_export.networks.text_encoder import TextEncoder
from sdrt_export.networks.unet import UNet
from sdrt_export.networks.vae import VaeDecoder, VaeEncoder
from sdrt_export.tracing.half_weights import Rounded
from sdrt_export.tracing.onnx_from_network import write_onnx
from support.clip_skip import repair_clip_skip
from support.exported_networks import assert_near, run_exported, run_in_bundle

pytestmark = [
    pytest.mark.export,
    # diffusers' Euler ancestral, with NumPy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

Bundles: TypeAlias = Callable[[str], Path]  # by recipe

every_recipe = pytest.mark.parametrize("name", RECIPES)


@every_recipe
def test_unet_at_an_odd_size_and_a_step_per_sample(name: str, tiny_bundle: Bundles) -> None:
    unet = tiny_pipeline(name).unet
    random = torch.Generator().manual_seed(1)
    sample = torch.randn(3, unet.config.in_channels, 11, 7, generator=random)
    timestep = torch.tensor([999.0, 0.0, 481.0])
    context = torch.randn(3, 100, unet.config.cross_attention_dim, generator=random)
    inputs = [sample, timestep, context]
    if name == "lcm":
        inputs.append(torch.randn(3, unet.config.time_cond_proj_dim, generator=random))
    with torch.no_grad():
        expected = unet(*inputs[:3], timestep_cond=inputs[3] if name == "lcm" else None).sample

    assert_near(expected, run_in_bundle(tiny_bundle(name), UNet(unet), *inputs)["out_sample"])


@every_recipe
def test_text_encoder_with_every_layer(name: str, tiny_bundle: Bundles) -> None:
    pipeline = tiny_pipeline(name)
    encoder = pipeline.text_encoder
    prompts = ["a red circle", "masterpiece, an old café", "", "x " * 100, "12 dogs"]
    tokens = pipeline.tokenizer(
        prompts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        expected = encoder(tokens, output_hidden_states=True)
        norm = getattr(encoder, "text_model", encoder).final_layer_norm  # transformers 4 and 5
        normed = [norm(states) for states in expected.hidden_states]

    got = run_in_bundle(tiny_bundle(name), TextEncoder(encoder), tokens)

    assert_near(expected.last_hidden_state, got["last_hidden_state"])
    assert_near(expected.pooler_output, got["pooler_output"])
    for i, states in enumerate(expected.hidden_states):
        assert_near(states, got[f"hidden_states.{i}"])
        assert_near(normed[i], got[f"normed_hidden_states.{i}"])
    assert len(got) == 2 + 2 * (encoder.config.num_hidden_layers + 1)


def test_clip_skip_reads_a_normed_state(tiny_bundle: Bundles) -> None:
    pipeline = repair_clip_skip(tiny_pipeline("deep"))
    expected, _ = pipeline.encode_prompt("a red circle", "cpu", 1, False, clip_skip=1)
    tokens = pipeline.tokenizer("a red circle", padding="max_length", return_tensors="pt").input_ids

    got = run_in_bundle(tiny_bundle("deep"), TextEncoder(pipeline.text_encoder), tokens)

    num_layers = pipeline.text_encoder.config.num_hidden_layers
    assert_near(expected.detach(), got[f"normed_hidden_states.{num_layers - 1}"])


@every_recipe
def test_vae_decoder(name: str, tiny_bundle: Bundles) -> None:
    vae = tiny_pipeline(name).vae
    random = torch.Generator().manual_seed(2)
    latents = torch.randn(1, vae.config.latent_channels, 5, 12, generator=random)
    with torch.no_grad():
        expected = vae.decode(latents).sample

    assert_near(expected, run_in_bundle(tiny_bundle(name), VaeDecoder(vae), latents)["sample"])


@every_recipe
def test_vae_encoder(name: str, tiny_bundle: Bundles) -> None:
    vae = tiny_pipeline(name).vae
    random = torch.Generator().manual_seed(3)
    images = torch.rand(3, 3, 40, 72, generator=random) * 2 - 1
    with torch.no_grad():
        expected = vae.encode(images).latent_dist.parameters

    got = run_in_bundle(tiny_bundle(name), VaeEncoder(vae), images)
    assert_near(expected, got["latent_parameters"])


def test_equal_weights_are_kept_apart(tmp_path: Path) -> None:
    """Like the norms of a new model: the tracer merges them, with two axes or three."""
    vae = tiny_pipeline("classic").vae
    with torch.no_grad():
        for name, weight in vae.named_parameters():
            if "norm" in name:
                weight.fill_(1.5 if name.endswith("weight") else 0.25)
    latents = torch.randn(2, 4, 5, 12, generator=torch.Generator().manual_seed(6))
    with torch.no_grad():
        expected = vae.decode(latents).sample

    network = VaeDecoder(vae)
    model = write_onnx(network, tmp_path)[0]
    assert_near(expected, run_exported(network, model, latents)["sample"])


def text_encoder_of(pipeline: StableDiffusionPipeline) -> Network:
    return TextEncoder(pipeline.text_encoder)


def unet_of(pipeline: StableDiffusionPipeline) -> Network:
    return UNet(pipeline.unet)


@pytest.mark.parametrize("network_of", [text_encoder_of, unet_of])
def test_halves_give_the_very_numbers_of_rounded_weights(
    network_of: Callable[[StableDiffusionPipeline], Network], tmp_path: Path
) -> None:
    """The casts are exact in every engine."""
    network = network_of(tiny_pipeline("v_prediction"))
    rounded = Rounded(network.name, network.model.state_dict())
    outputs, sizes = [], []
    for weights in ("fp32", "fp16"):
        folder = tmp_path / weights
        folder.mkdir()
        model, data = write_onnx(network, folder, weights, rounded)
        sizes.append(data.stat().st_size)
        inputs = network.inputs_at(TraceSize(2, 8, 12, 77), torch.Generator().manual_seed(4))
        outputs.append(run_exported(network, model, *inputs))
    for name, expected in outputs[0].items():
        np.testing.assert_array_equal(outputs[1][name], expected)
    assert sizes[1] < 0.6 * sizes[0]
