"""ControlNets and the UNet that they control against diffusers, at sizes never traced."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from diffusers import UNet2DConditionModel
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

from checkpoints import RECIPES, new_controlnet, tiny_pipeline
from sdrt_export.networks.controlnet import ControlledUNet, ControlNet, Skip, skips_from_config
from sdrt_export.networks.network import TraceSize
from sdrt_export.networks.unet import UNet
from sdrt_export.tracing.onnx_from_network import round_weights, write_onnx, write_variants
from support.exported_networks import assert_near, run_exported

pytestmark = [
    pytest.mark.export,
    # diffusers' Euler ancestral, with NumPy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

every_recipe = pytest.mark.parametrize("name", RECIPES)
ODD = TraceSize(batch=3, height=11, width=7, sequence=100)


def at_scale_1(net: ControlNet) -> tuple[torch.Tensor, ...]:
    """The scale, and no residuals of other nets."""
    _, _, _, _, scale, *earlier = net.inputs_at(ODD, torch.Generator())
    return torch.ones_like(scale), *map(torch.zeros_like, earlier)


def conditions(unet: UNet2DConditionModel, channels: int) -> list[torch.Tensor]:
    """A sample, a step for each row, and text."""
    random = torch.Generator().manual_seed(1)
    context = (ODD.batch, ODD.sequence, unet.config.cross_attention_dim)
    return [
        torch.randn((ODD.batch, channels, ODD.height, ODD.width), generator=random),
        torch.tensor([999.0, 0.0, 481.0]),
        torch.randn(context, generator=random),
    ]


def control_image(channels: int, scale: int = 8) -> torch.Tensor:
    """The same in any order of tests; `scale` pixels per latent."""
    shape = (ODD.batch, channels, scale * ODD.height, scale * ODD.width)
    return torch.rand(shape, generator=torch.Generator().manual_seed(3))


@every_recipe
def test_a_controlled_image_is_diffusers(name: str, tmp_path: Path) -> None:
    """Through both graphs: the net's outputs are the UNet's inputs of the same names."""
    unet, net = tiny_pipeline(name).unet, new_controlnet(name)
    scale = 2 ** (len(net.config.conditioning_embedding_out_channels) - 1)
    latents, *rest = conditions(unet, unet.config.out_channels)
    image = control_image(3, scale)
    sample, *_ = conditions(unet, unet.config.in_channels)
    extra = {}
    if name == "lcm":
        shape = (ODD.batch, unet.config.time_cond_proj_dim)
        extra["timestep_cond"] = torch.randn(shape, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        down, mid = net(latents, *rest, image, return_dict=False)
        plain = unet(sample, *rest, **extra).sample
        expected = unet(
            sample,
            *rest,
            **extra,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
    assert (expected - plain).std() > 0.05 * plain.std(), "a net without effect proves nothing"

    folders = [tmp_path / folder for folder in ("net", "unet")]
    for folder in folders:
        folder.mkdir()
    network = ControlNet(net, "edges")
    inputs = (latents, *rest, image, *at_scale_1(network))
    residuals = run_exported(network, write_onnx(network, folders[0])[0], *inputs)
    assert network.name == "controlnet_edges"
    for got, residual in zip(residuals.values(), (*down, mid), strict=True):
        assert_near(residual, got)

    variants = [UNet(unet), ControlledUNet(unet)]
    (model, *_), (controlled, *_) = write_variants(variants, folders[1])
    conditioned = [sample, *rest, *extra.values()]
    assert_near(plain, run_exported(variants[0], model, *conditioned)["out_sample"])
    added = [torch.from_numpy(array) for array in residuals.values()]
    assert_near(expected, run_exported(variants[1], controlled, *conditioned, *added)["out_sample"])


@pytest.mark.parametrize(
    ("channels", "options"),
    [
        (1, {}),
        (5, {}),
        (3, {"controlnet_conditioning_channel_order": "bgr"}),
        (3, {"global_pool_conditions": True}),
    ],
)
def test_every_kind_of_controlnet(channels: int, options: dict[str, Any], tmp_path: Path) -> None:
    unet, net = tiny_pipeline("deep").unet, new_controlnet("deep", channels, **options)
    inputs = conditions(unet, 4)
    image = control_image(channels)
    with torch.no_grad():
        down, mid = net(*inputs, image, return_dict=False)

    network = ControlNet(net, "x")
    model = write_onnx(network, tmp_path)[0]
    got = run_exported(network, model, *inputs, image, *at_scale_1(network))

    assert [*got] == [*(f"down_block_residuals.{i}" for i in range(9)), "mid_block_residual"]
    for skip, residual, array in zip(network_skips(net), (*down, mid), got.values(), strict=True):
        shape = (ODD.batch, skip.channels, skip.size(ODD.height), skip.size(ODD.width))
        assert array.shape == shape  # pooled ones too: the shape that the UNet takes
        assert_near(residual.expand(shape), array)


def network_skips(net: torch.nn.Module) -> tuple[Skip, ...]:
    return skips_from_config(net.config)


def test_an_image_in_another_order_of_channels_is_another_image() -> None:
    """The tests above would pass with channels that have no effect."""
    net = new_controlnet("deep")
    inputs = conditions(tiny_pipeline("deep").unet, 4)
    image = control_image(3)
    with torch.no_grad():
        (first, *_), _ = net(*inputs, image, return_dict=False)
        (other, *_), _ = net(*inputs, image.flip(1), return_dict=False)
    assert (first - other).std() > 0.05 * first.std()


@every_recipe
def test_skips_follow_from_the_configuration(name: str) -> None:
    unet = tiny_pipeline(name).unet
    if unet.mid_block is None:
        return  # its output is the last skip connection's
    kept: list[torch.Tensor] = []
    unet.mid_block.register_forward_hook(lambda block, inputs, output: kept.append(output))
    unet.conv_in.register_forward_hook(lambda block, inputs, output: kept.append(output))
    for block in unet.down_blocks:
        block.register_forward_hook(lambda block, inputs, output: kept.extend(output[1]))
    with torch.no_grad():
        unet(*conditions(unet, unet.config.in_channels))
    assert [(x.shape[1], x.shape[2], x.shape[3]) for x in kept] == [
        (skip.channels, skip.size(ODD.height), skip.size(ODD.width))
        for skip in skips_from_config(unet.config)
    ]


def test_layers_may_differ_from_block_to_block() -> None:
    config = {"block_out_channels": [4, 8], "layers_per_block": [2, 1]}
    assert skips_from_config(config) == (
        *(Skip(4, 1), Skip(4, 1), Skip(4, 1), Skip(4, 2)),
        *(Skip(8, 2), Skip(8, 2)),
    )


def operators(model: Path) -> Counter[str]:
    graph = onnx.load(model, load_external_data=False).graph
    return Counter(node.op_type for node in graph.node)


@pytest.fixture(scope="module", params=["v_prediction", "linear_projection"])
def unet(request: pytest.FixtureRequest) -> UNet2DConditionModel:
    return tiny_pipeline(request.param).unet


@pytest.mark.parametrize("weights", ["fp32", "fp16"])
def test_the_plain_graph_is_what_it_is_without_control(
    weights: str, unet: UNet2DConditionModel, tmp_path: Path
) -> None:
    """So a run without control costs nothing, and one with control five more sums."""
    alone, both = tmp_path / "alone", tmp_path / "both"
    alone.mkdir()
    both.mkdir()
    network = UNet(unet)
    round_weights(network)
    model, data = write_onnx(network, alone, weights)
    files = write_variants([network, ControlledUNet(unet)], both, weights)

    assert files == [
        [both / name, both / "model.onnx_data"] for name in (model.name, "controlled.onnx")
    ]
    assert operators(both / model.name) == operators(model)
    assert operators(both / "controlled.onnx") - operators(model) == Counter(Add=5)
    assert (both / data.name).stat().st_size == data.stat().st_size
    plain, controlled = (onnx.load(paths[0]).graph.initializer for paths in files)
    assert [tensor.name for tensor in plain] == [tensor.name for tensor in controlled]
    for tensor, same in zip(plain, controlled, strict=True):
        assert tensor == same


def test_residuals_of_zero_change_nothing(unet: UNet2DConditionModel, tmp_path: Path) -> None:
    variants = [UNet(unet), ControlledUNet(unet)]
    (model, *_), (controlled, *_) = write_variants(variants, tmp_path)
    inputs = variants[1].inputs_at(ODD, torch.Generator().manual_seed(5))
    plain, residuals = inputs[:3], inputs[3:]
    np.testing.assert_array_equal(
        run_exported(variants[0], model, *plain)["out_sample"],
        run_exported(variants[1], controlled, *plain, *map(torch.zeros_like, residuals))[
            "out_sample"
        ],
    )


@pytest.mark.parametrize("options", [{}, {"global_pool_conditions": True}])
def test_nets_are_summed_as_diffusers_sums_them(options: dict[str, Any], tmp_path: Path) -> None:
    """Two nets in order: the outputs of the first go into the second."""
    nets = [new_controlnet("deep", 1), new_controlnet("deep", 3, **options)]
    inputs = conditions(tiny_pipeline("deep").unet, 4)
    images = [control_image(channels) for channels in (1, 3)]
    scales = [0.3, -1.5]
    with torch.no_grad():
        down, mid = MultiControlNetModel(nets)(*inputs, images, scales, return_dict=False)

    networks = [ControlNet(net, f"net{i}") for i, net in enumerate(nets)]
    factors, *earlier = at_scale_1(networks[0])
    for network, image, scale in zip(networks, images, scales, strict=True):
        folder = tmp_path / network.name
        folder.mkdir()
        model = write_onnx(network, folder)[0]
        got = run_exported(network, model, *inputs, image, scale * factors, *earlier)
        earlier = [torch.from_numpy(array) for array in got.values()]

    for residual, array in zip((*down, mid), got.values(), strict=True):
        assert_near(residual, array)


def test_each_residual_has_a_factor_of_its_own(tmp_path: Path) -> None:
    """As guess mode needs it; nothing else follows the last convolutions."""
    network = ControlNet(new_controlnet("classic"), "x")
    inputs = conditions(tiny_pipeline("classic").unet, 4)
    image = control_image(3, network.scale)
    model = write_onnx(network, tmp_path)[0]
    ones, *zeros = at_scale_1(network)
    factors = torch.arange(1.0, ones.numel() + 1).reshape(ones.shape)  # (B, N)
    plain, scaled = (
        run_exported(network, model, *inputs, image, scale, *zeros) for scale in (ones, factors)
    )
    for factor, (name, array) in zip(factors.numpy().T, plain.items(), strict=True):
        np.testing.assert_array_equal(scaled[name], factor[:, None, None, None] * array)
    givers = {node.output[0]: node for node in onnx.load(model).graph.node}
    for value in onnx.load(model).graph.output:
        total = givers[value.name]
        product = givers[total.input[1]]
        kinds = {givers[name].op_type for name in product.input}
        assert (total.op_type, product.op_type) == ("Add", "Mul")
        assert kinds == {"Unsqueeze", "Conv"}


@every_recipe
def test_the_nets_for_tests_are_worth_testing_with(name: str) -> None:
    """A residual neither disappears in the skip connection nor dominates it."""
    unet, net = tiny_pipeline(name).unet, new_controlnet(name, 1)
    kept: list[torch.Tensor] = []
    blocks = [unet.conv_in, *unet.down_blocks, unet.mid_block or unet.down_blocks[-1]]
    for block in blocks:
        block.register_forward_hook(lambda block, inputs, output: kept.append(output))
    scale = 2 ** (len(net.config.conditioning_embedding_out_channels) - 1)
    latents, *rest = conditions(unet, unet.config.out_channels)
    image = control_image(1, scale)
    with torch.no_grad():
        unet(*conditions(unet, unet.config.in_channels))
        down, mid = net(latents, *rest, image, return_dict=False)
    skips = [x for output in kept for x in (output[1] if isinstance(output, tuple) else (output,))]
    for residual, skip in zip(down, skips[: len(down)], strict=True):
        assert 0.05 < residual.std() / skip.std() < 0.5
    assert mid.std() > 0
