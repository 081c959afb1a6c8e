"""The networks of ControlNet: the net itself, and the UNet that takes residuals.

Source: Zhang et al. 2023, https://arxiv.org/abs/2302.05543.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from sdrt import tensor_names as names
from sdrt.bundle.manifest import RESIDUALS
from sdrt.bundle.optimum_folder import CONTROLLED_NAME
from sdrt_engines import Signature, TensorSpec
from sdrt_export.checkpoints.parts import CONTROLNET_XL
from sdrt_export.networks.attention import PlainAttention
from sdrt_export.networks.network import Network, TraceSize, float32
from sdrt_export.networks.unet import (
    UNet,
    arguments_from_inputs,
    denoiser_inputs,
    random_denoiser_inputs,
)


@dataclass(frozen=True)
class Skip:
    """One connection: its channels, and the number of latents per pixel in each direction.

    Sizes are rounded up: a scale of 2 makes 5 of 9 latents.
    """

    channels: int
    scale: int

    def size(self, latents: int) -> int:
        """Height or width of the connection, from that of the latents."""
        return -(-latents // self.scale)

    def size_name(self, latents: str) -> str:
        """The same for the name of a size."""
        return latents if self.scale == 1 else f"ceil({latents}/{self.scale})"


def skips_from_config(config: Mapping[str, Any]) -> tuple[Skip, ...]:
    """The connections in the order of ControlNet's residuals; the middle block's output comes last.

    `config` is that of a UNet or a ControlNet. Source: `UNet2DConditionModel` of diffusers, whose
    blocks keep the output of each layer and of each downsampling.
    """
    channels, layers = config["block_out_channels"], config["layers_per_block"]
    if isinstance(layers, int):
        layers = [layers] * len(channels)
    skips = [Skip(channels[0], 1)]
    for level, (width, num_layers) in enumerate(zip(channels, layers, strict=True)):
        skips += [Skip(width, 2**level)] * num_layers
        if level + 1 < len(channels):
            skips.append(Skip(width, 2 ** (level + 1)))
    return *skips, Skip(channels[-1], 2 ** (len(channels) - 1))


class ControlledUNet(UNet):
    """The UNet with a residual for each skip connection and for the middle block's output.

    With residuals of zero its output is that of `UNet`.
    """

    name = names.UNET_CONTROLLED
    takes = frozenset({RESIDUALS})
    file_name = CONTROLLED_NAME

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        plain = self.signature
        self.num_plain = len(plain.inputs)
        self.skips = skips_from_config(model.config)
        self.signature = Signature((*plain.inputs, *_residuals(self.skips)), plain.outputs)

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        *down, mid = inputs[self.num_plain :]
        return self.predict(
            *inputs[: self.num_plain],
            down_block_additional_residuals=tuple(down),
            mid_block_additional_residual=mid,
        )

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        return *super().inputs_at(size, random), *_random_residuals(self.skips, size, random)


class ControlNet(Network):
    """The residuals of a control image, scaled, plus those of the nets before it.

    The image's values are in 0..1. Scale and sum are in the graph, where they cost nothing, so the
    residuals of any number of nets pass from engine to engine on their way to the UNet and never
    leave a GPU. Residuals that diffusers pools into one number per channel
    (`global_pool_conditions`) are expanded to the connection's size. Source: `ControlNetModel` and
    `MultiControlNetModel` of diffusers.
    """

    role = "controlnet"

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__(model)
        self.name = names.controlnet(name)
        config = model.config
        self.pools = config.global_pool_conditions
        model.register_to_config(global_pool_conditions=False)  # done below
        # each level of the image's embedding except the first halves the size
        self.scale = 1 << (len(config.conditioning_embedding_out_channels) - 1)
        sizes = (f"{self.scale}*height", f"{self.scale}*width")
        image = float32(names.CONTROLNET_COND, "batch", config.conditioning_channels, *sizes)
        self.skips = skips_from_config(config)
        residuals = _residuals(self.skips)
        earlier = (replace(spec, name=names.earlier(spec.name)) for spec in residuals)
        factors = float32(names.CONDITIONING_SCALE, "batch", len(residuals))
        arguments = (*denoiser_inputs(config, CONTROLNET_XL.num_time_ids), image)
        self.num_arguments = len(arguments)
        self.signature = Signature((*arguments, factors, *earlier), residuals)

    def forward(self, *inputs: torch.Tensor) -> tuple[torch.Tensor, ...]:
        arguments = arguments_from_inputs(self.signature.inputs, inputs[: self.num_arguments])
        conditioning_scale, *earlier = inputs[self.num_arguments :]
        down, mid = self.model(**arguments, return_dict=False)
        residuals = (*down, mid)
        if self.pools:
            residuals = tuple(residual.mean((2, 3), keepdim=True) for residual in residuals)
        return tuple(
            total + conditioning_scale[:, i, None, None, None] * residual
            for i, (total, residual) in enumerate(zip(earlier, residuals, strict=True))
        )

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        config = self.model.config
        image = torch.rand(
            (
                *(size.batch, config.conditioning_channels),
                *(self.scale * size.height, self.scale * size.width),
            ),
            generator=random,
        )
        scale = torch.randn((size.batch, len(self.skips)), generator=random)
        # small compared with the net's own residuals, so that errors in those are visible
        earlier = (0.01 * x for x in _random_residuals(self.skips, size, random))
        denoising = random_denoiser_inputs(config, CONTROLNET_XL.num_time_ids, size, random)
        return *denoising, image, scale, *earlier

    def simplify(self) -> None:
        self.model.set_attn_processor(PlainAttention())


def _random_residuals(
    skips: tuple[Skip, ...], size: TraceSize, random: torch.Generator
) -> tuple[torch.Tensor, ...]:
    return tuple(
        torch.randn(
            (size.batch, skip.channels, skip.size(size.height), skip.size(size.width)),
            generator=random,
        )
        for skip in skips
    )


def _residuals(skips: tuple[Skip, ...]) -> tuple[TensorSpec, ...]:
    down = (names.down_block_residual(index) for index in range(len(skips) - 1))
    return tuple(
        float32(name, "batch", skip.channels, skip.size_name("height"), skip.size_name("width"))
        for name, skip in zip((*down, names.MID_BLOCK_RESIDUAL), skips, strict=True)
    )
