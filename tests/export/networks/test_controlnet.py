"""ControlNets of a bundle, and the UNet they control, against diffusers at sizes never traced."""

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
import pytest
import torch
from diffusers import ControlNetModel, UNet2DConditionModel
from diffusers.models.controlnets.multicontrolnet import MultiControlNetModel

from checkpoints import new_controlnet, tiny_pipeline
from recipes import RECIPES
from sdrt_engines import Array
from sdrt_export.networks.controlnet import ControlledUNet, ControlNet, Skip, skips_from_config
from sdrt_export.networks.network import TraceSize
from sdrt_export.networks.unet import UNet
from sdrt_export.options import WeightType
from sdrt_export.tracing.half_weights import Rounded
from sdrt_export.tracing.onnx_from_network import write_onnx, write_variants
from support.exported_networks import assert_near, run_exported, run_in_bundle

pytestmark = [
    pytest.mark.export,
    # diffusers' Euler ancestral, with NumPy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

Bundles: TypeAlias = Callable[[str], Path]  # by recipe; their nets are "edges" and "depth"

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
def test_a_controlled_image_is_diffusers(name: str, tiny_bundle: Bundles) -> None:
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

    bundle, network = tiny_bundle(name), ControlNet(net, "edges")
    inputs = (latents, *rest, image, *at_scale_1(network))
    residuals = run_in_bundle(bundle, network, *inputs)
    assert network.name == "controlnet_edges"
    for got, residual in zip(residuals.values(), (*down, mid), strict=True):
        assert_near(residual, got)

    conditioned = [sample, *rest, *extra.values()]
    assert_near(plain, run_in_bundle(bundle, UNet(unet), *conditioned)["out_sample"])
    added = [torch.from_numpy(array) for array in residuals.values()]
    got = run_in_bundle(bundle, ControlledUNet(unet), *conditioned, *added)["out_sample"]
    assert_near(expected, got)


OTHER_NETS: dict[str, dict[str, Any]] = {  # for the recipe "deep", in addition to the bundle's
    "many": {"conditioning_channels": 5},
    "bgr": {"controlnet_conditioning_channel_order": "bgr"},
    "pooled": {"global_pool_conditions": True},
}


@pytest.fixture(scope="module")
def run_net(
    tiny_bundle: Bundles, tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., dict[str, Array]]:
    """Runs a ControlNet for the recipe "deep": the file in the bundle, or one of `OTHER_NETS`."""

    @cache
    def exported(name: str) -> Path:
        net = new_controlnet("deep", **OTHER_NETS[name])
        return write_onnx(ControlNet(net, name), tmp_path_factory.mktemp(name))[0]

    def run(network: ControlNet, *inputs: torch.Tensor) -> dict[str, Array]:
        name = network.name.removeprefix("controlnet_")
        if name in OTHER_NETS:
            return run_exported(network, exported(name), *inputs)
        return run_in_bundle(tiny_bundle("deep"), network, *inputs)

    return run


def deep_net(name: str) -> ControlNetModel:
    channels = {"depth": 1}.get(name, 3)
    return new_controlnet(
        "deep", **({"conditioning_channels": channels} | OTHER_NETS.get(name, {}))
    )


@pytest.mark.parametrize("name", ["depth", *OTHER_NETS])
def test_every_kind_of_controlnet(name: str, run_net: Callable[..., dict[str, Array]]) -> None:
    unet, net = tiny_pipeline("deep").unet, deep_net(name)
    inputs = conditions(unet, 4)
    image = control_image(net.config.conditioning_channels)
    with torch.no_grad():
        down, mid = net(*inputs, image, return_dict=False)

    network = ControlNet(net, name)
    got = run_net(network, *inputs, image, *at_scale_1(network))

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


two_recipes = pytest.mark.parametrize("name", ["v_prediction", "linear_projection"])


@two_recipes
@pytest.mark.parametrize("weights", ["fp32", "fp16"])
def test_the_plain_graph_is_what_it_is_without_control(
    weights: WeightType, name: str, tmp_path: Path
) -> None:
    """So a run without control costs nothing, and one with control five more sums."""
    alone, both = tmp_path / "alone", tmp_path / "both"
    alone.mkdir()
    both.mkdir()
    unet = tiny_pipeline(name).unet
    network = UNet(unet)
    rounded = Rounded(network.name, unet.state_dict())
    model, data = write_onnx(network, alone, weights, rounded)
    files = write_variants([network, ControlledUNet(unet)], both, weights, rounded)

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


@two_recipes
def test_residuals_of_zero_change_nothing(name: str, tiny_bundle: Bundles) -> None:
    bundle, unet = tiny_bundle(name), tiny_pipeline(name).unet
    controlled = ControlledUNet(unet)
    inputs = controlled.inputs_at(ODD, torch.Generator().manual_seed(5))
    plain, residuals = inputs[:3], inputs[3:]
    got = run_in_bundle(bundle, controlled, *plain, *map(torch.zeros_like, residuals))
    expected = run_in_bundle(bundle, UNet(unet), *plain)
    np.testing.assert_array_equal(got["out_sample"], expected["out_sample"])


@pytest.mark.parametrize("names", [("depth", "edges"), ("depth", "pooled")])
def test_nets_are_summed_as_diffusers_sums_them(
    names: tuple[str, str], run_net: Callable[..., dict[str, Array]]
) -> None:
    """Two nets in order: the outputs of the first go into the second."""
    nets = [deep_net(name) for name in names]
    inputs = conditions(tiny_pipeline("deep").unet, 4)
    images = [control_image(channels) for channels in (1, 3)]
    scales = [0.3, -1.5]
    with torch.no_grad():
        down, mid = MultiControlNetModel(nets)(*inputs, images, scales, return_dict=False)

    networks = [ControlNet(net, name) for net, name in zip(nets, names, strict=True)]
    factors, *earlier = at_scale_1(networks[0])
    for network, image, scale in zip(networks, images, scales, strict=True):
        got = run_net(network, *inputs, image, scale * factors, *earlier)
        earlier = [torch.from_numpy(array) for array in got.values()]

    for residual, array in zip((*down, mid), got.values(), strict=True):
        assert_near(residual, array)


def test_each_residual_has_a_factor_of_its_own(tiny_bundle: Bundles) -> None:
    """As guess mode needs it; nothing else follows the last convolutions."""
    bundle, network = tiny_bundle("classic"), ControlNet(new_controlnet("classic"), "edges")
    inputs = conditions(tiny_pipeline("classic").unet, 4)
    image = control_image(3, network.scale)
    ones, *zeros = at_scale_1(network)
    factors = torch.arange(1.0, ones.numel() + 1).reshape(ones.shape)  # (B, N)
    plain, scaled = (
        run_in_bundle(bundle, network, *inputs, image, scale, *zeros) for scale in (ones, factors)
    )
    for factor, (name, array) in zip(factors.numpy().T, plain.items(), strict=True):
        np.testing.assert_array_equal(scaled[name], factor[:, None, None, None] * array)
    graph = onnx.load(bundle / network.name / "model.onnx").graph
    givers = {node.output[0]: node for node in graph.node}
    for value in graph.output:
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
