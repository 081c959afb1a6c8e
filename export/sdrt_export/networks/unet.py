"""The denoiser as a network, and the inputs that it shares with a ControlNet."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from sdrt import tensor_names as names
from sdrt_engines import Signature, TensorSpec
from sdrt_export.networks.attention import PlainAttention
from sdrt_export.networks.network import Network, TraceSize, float32


class UNet(Network):
    """The denoiser at a vector of timesteps, one for each sample.

    Source: `UNet2DConditionModel` of diffusers; `timestep_cond` if it was distilled (LCM).
    """

    name = names.UNET
    role = "denoiser"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        config = model.config
        inputs = denoiser_inputs(config)
        if config.time_cond_proj_dim is not None:
            inputs += (float32(names.TIMESTEP_COND, "batch", config.time_cond_proj_dim),)
        output = float32(names.OUT_SAMPLE, "batch", config.out_channels, "height", "width")
        self.signature = Signature(inputs, (output,))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.predict(*inputs)

    def predict(
        self,
        sample: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        timestep_cond: torch.Tensor | None = None,
        **residuals: torch.Tensor | tuple[torch.Tensor, ...],
    ) -> torch.Tensor:
        """The model's prediction; `residuals` are the arguments for those of a ControlNet."""
        (out_sample,) = self.model(
            *(sample, timestep, encoder_hidden_states),
            timestep_cond=timestep_cond,
            return_dict=False,
            **residuals,
        )
        return out_sample

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        inputs = random_denoiser_inputs(self.model.config, size, random)
        width = self.model.config.time_cond_proj_dim
        if width is None:
            return inputs
        return *inputs, torch.randn((size.batch, width), generator=random)

    def simplify(self) -> None:
        self.model.set_attn_processor(PlainAttention())
        # diffusers upsamples by 2, or, if a size is not divisible often enough, to the size of the
        # skip connection. With so many upsamplers no size is divisible, so the graph contains the
        # general case and image sides may be any multiple of 8 pixels.
        self.model.num_upsamplers = 32


def denoiser_inputs(config: Any) -> tuple[TensorSpec, ...]:
    """The inputs that a UNet and a ControlNet of that configuration share."""
    return (
        float32(names.SAMPLE, "batch", config.in_channels, "height", "width"),
        float32(names.TIMESTEP, "batch"),
        float32(names.ENCODER_HIDDEN_STATES, "batch", "sequence", config.cross_attention_dim),
    )


def random_denoiser_inputs(
    config: Any, size: TraceSize, random: torch.Generator
) -> tuple[torch.Tensor, ...]:
    """Values for `denoiser_inputs`."""
    sample = (size.batch, config.in_channels, size.height, size.width)
    context = (size.batch, size.sequence, config.cross_attention_dim)
    return (
        torch.randn(sample, generator=random),
        torch.randint(1000, (size.batch,), generator=random).float(),
        torch.randn(context, generator=random),
    )
