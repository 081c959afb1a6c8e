"""The networks of SDXL and its refiner against diffusers, at sizes that were never traced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel

from checkpoints import added_conditions, new_controlnet, tiny_pipeline
from recipes import ALL, REFINERS, XL
from sdrt_export.architectures import MID, SMALL, Config
from sdrt_export.checkpoints.parts import REFINER_UNET, UNET_XL
from sdrt_export.networks.controlnet import ControlledUNet, ControlNet
from sdrt_export.networks.loading import MODELS
from sdrt_export.networks.network import TraceSize
from sdrt_export.networks.text_encoder import ProjectedTextEncoder
from sdrt_export.networks.unet import RefinerUNet, UNet
from sdrt_export.tracing.onnx_from_network import write_onnx
from support.exported_networks import assert_near, run_exported, run_in_bundle

pytestmark = [
    pytest.mark.export,
    # diffusers' Euler ancestral, with NumPy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

Bundles: TypeAlias = Callable[[str], Path]  # by recipe
Arguments: TypeAlias = dict[str, torch.Tensor]

every_recipe = pytest.mark.parametrize("name", [*XL, *REFINERS])
ODD = TraceSize(batch=3, height=11, width=7, sequence=100)


def arguments_for(name: str, unet: UNet2DConditionModel, channels: int) -> Arguments:
    """A sample, a step for each row, text, and SDXL's conditions, in the order of the networks."""
    random = torch.Generator().manual_seed(1)
    context = (ODD.batch, ODD.sequence, unet.config.cross_attention_dim)
    arguments = {
        "sample": torch.randn((ODD.batch, channels, ODD.height, ODD.width), generator=random),
        "timestep": torch.tensor([999.0, 0.0, 481.0]),
        "encoder_hidden_states": torch.randn(context, generator=random),
    }
    if unet.config.time_cond_proj_dim is not None:
        width = unet.config.time_cond_proj_dim
        arguments["timestep_cond"] = torch.randn((ODD.batch, width), generator=random)
    return arguments | added_conditions(unet.config, ODD.batch, ALL[name].num_time_ids, random)


def predicted(unet: UNet2DConditionModel, arguments: Arguments, **residuals: Any) -> torch.Tensor:
    sample, timestep, context, *_ = arguments.values()
    with torch.no_grad():
        output = unet(
            *(sample, timestep, context),
            timestep_cond=arguments.get("timestep_cond"),
            added_cond_kwargs=added(arguments),
            **residuals,
        )
    return output.sample


def added(arguments: Arguments) -> Arguments:
    return {name: arguments[name] for name in ("text_embeds", "time_ids")}


@every_recipe
def test_unet_at_an_odd_size_and_a_step_per_sample(name: str, tiny_bundle: Bundles) -> None:
    unet = tiny_pipeline(name).unet
    arguments = arguments_for(name, unet, unet.config.in_channels)
    network = RefinerUNet(unet) if name in REFINERS else UNet(unet)
    got = run_in_bundle(tiny_bundle(name), network, *arguments.values())
    assert_near(predicted(unet, arguments), got["out_sample"])


@every_recipe
def test_every_condition_counts(name: str) -> None:
    """An exchange of two of them, or a condition without effect, would go unnoticed otherwise."""
    unet = tiny_pipeline(name).unet
    arguments = arguments_for(name, unet, unet.config.in_channels)
    expected = predicted(unet, arguments)
    for changed in ("encoder_hidden_states", "text_embeds", "time_ids"):
        other = predicted(unet, arguments | {changed: arguments[changed].flip(-1)})
        assert (other - expected).std() > 0.02 * expected.std(), changed


@every_recipe
def test_second_text_encoder_with_every_layer(name: str, tiny_bundle: Bundles) -> None:
    pipeline = tiny_pipeline(name)
    encoder = pipeline.text_encoder_2
    prompts = ["a red circle", "masterpiece! an old café!!", "", "x " * 100, "12 dogs"]
    tokens = pipeline.tokenizer_2(
        prompts, padding="max_length", truncation=True, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        expected = encoder(tokens, output_hidden_states=True)
        norm = getattr(encoder, "text_model", encoder).final_layer_norm  # transformers 4 and 5
        normed = [norm(states) for states in expected.hidden_states]

    got = run_in_bundle(tiny_bundle(name), ProjectedTextEncoder(encoder), tokens)

    assert [*got][:2] == ["text_embeds", "last_hidden_state"]  # as in optimum's folders
    assert_near(expected.text_embeds, got["text_embeds"])
    assert_near(expected.last_hidden_state, got["last_hidden_state"])
    for i, states in enumerate(expected.hidden_states):
        assert_near(states, got[f"hidden_states.{i}"])
        assert_near(normed[i], got[f"normed_hidden_states.{i}"])
    assert len(got) == 2 + 2 * (encoder.config.num_hidden_layers + 1)


@pytest.mark.parametrize("name", XL)
def test_a_controlled_image_is_diffusers(name: str, tiny_bundle: Bundles) -> None:
    """Through both graphs: the net's outputs are the UNet's inputs of the same names."""
    unet, net = tiny_pipeline(name).unet, new_controlnet(name)
    arguments = arguments_for(name, unet, unet.config.in_channels)
    latents = arguments_for(name, unet, unet.config.out_channels)
    latents.pop("timestep_cond", None)
    image = control_image(net)
    down, mid = residuals_of(net, latents, image)
    expected = predicted(
        unet,
        arguments,
        down_block_additional_residuals=down,
        mid_block_additional_residual=mid,
    )
    plain = predicted(unet, arguments)
    assert (expected - plain).std() > 0.05 * plain.std(), "a net without effect proves nothing"

    network = ControlNet(net, "edges")
    inputs = (*latents.values(), image, *at_scale_1(network))
    residuals = run_in_bundle(tiny_bundle(name), network, *inputs)
    for residual, array in zip((*down, mid), residuals.values(), strict=True):
        assert_near(residual, array)
    arrays = map(torch.from_numpy, residuals.values())
    got = run_in_bundle(tiny_bundle(name), ControlledUNet(unet), *arguments.values(), *arrays)
    assert_near(expected, got["out_sample"])


@pytest.mark.parametrize("options", [MID, SMALL], ids=["mid", "small"])
def test_smaller_controlnets(options: Config, tmp_path: Path) -> None:
    """As published for SDXL: fewer transformers, or none, and residuals of the same shapes."""
    net = new_controlnet("xl_deep", **options)
    unet = tiny_pipeline("xl_deep").unet
    arguments = arguments_for("xl_deep", unet, 4)
    down, mid = residuals_of(net, arguments, control_image(net))

    network = ControlNet(net, "edges")
    (model, *_) = write_onnx(network, tmp_path)
    inputs = (*arguments.values(), control_image(net), *at_scale_1(network))
    got = run_exported(network, model, *inputs)
    for residual, array in zip((*down, mid), got.values(), strict=True):
        assert_near(residual, array)
    assert network.signature.outputs == ControlNet(new_controlnet("xl_deep"), "").signature.outputs


def control_image(net: ControlNetModel) -> torch.Tensor:
    scale = 2 ** (len(net.config.conditioning_embedding_out_channels) - 1)
    shape = (ODD.batch, 3, scale * ODD.height, scale * ODD.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


def residuals_of(
    net: ControlNetModel, arguments: Arguments, image: torch.Tensor
) -> tuple[tuple[torch.Tensor, ...], torch.Tensor]:
    sample, timestep, context, *_ = arguments.values()
    with torch.no_grad():
        down, mid = net(
            *(sample, timestep, context, image),
            added_cond_kwargs=added(arguments),
            return_dict=False,
        )
    return down, mid


def at_scale_1(network: ControlNet) -> tuple[torch.Tensor, ...]:
    """The scale, and no residuals of other nets."""
    scale, *earlier = network.inputs_at(ODD, torch.Generator())[network.num_arguments :]
    return torch.ones_like(scale), *map(torch.zeros_like, earlier)


def test_numbers_about_the_image_are_those_of_the_tables() -> None:
    for row in (UNET_XL, REFINER_UNET):
        for network in MODELS[row].networks[0]:
            assert issubclass(network, UNet)
            assert network.num_time_ids == row.num_time_ids
