"""The denoiser as a network, and the inputs that it shares with a ControlNet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import nn

from sdrt import tensor_names as names
from sdrt_engines import Signature, TensorSpec
from sdrt_export.checkpoints.parts import REFINER_UNET, UNET_XL
from sdrt_export.networks.attention import PlainAttention
from sdrt_export.networks.network import Network, TraceSize, float32


class UNet(Network):
    """The denoiser at a vector of timesteps, one for each sample.

    Source: `UNet2DConditionModel` of diffusers; `timestep_cond` if it was distilled (LCM),
    `text_embeds` and `time_ids` for SDXL.
    """

    name = names.UNET
    role = "denoiser"
    num_time_ids = UNET_XL.num_time_ids

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        config = model.config
        inputs = denoiser_inputs(config, self.num_time_ids)
        output = float32(names.OUT_SAMPLE, "batch", config.out_channels, "height", "width")
        self.signature = Signature(inputs, (output,))

    def forward(self, *inputs: torch.Tensor) -> torch.Tensor:
        return self.predict(*inputs)

    def predict(
        self, *inputs: torch.Tensor, **residuals: torch.Tensor | tuple[torch.Tensor, ...]
    ) -> torch.Tensor:
        """The model's prediction; `residuals` are the arguments for those of a ControlNet."""
        arguments = arguments_from_inputs(self.signature.inputs, inputs)
        (out_sample,) = self.model(**arguments, **residuals, return_dict=False)
        return out_sample

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        return random_denoiser_inputs(self.model.config, self.num_time_ids, size, random)

    def simplify(self) -> None:
        self.model.set_attn_processor(PlainAttention())
        # diffusers upsamples by 2, or, if a size is not divisible often enough, to the size of the
        # skip connection. With so many upsamplers no size is divisible, so the graph contains the
        # general case and image sides may be any multiple of 8 pixels.
        self.model.num_upsamplers = 32


class RefinerUNet(UNet):
    """The denoiser of SDXL's refiner."""

    num_time_ids = REFINER_UNET.num_time_ids


def denoiser_inputs(config: Any, num_time_ids: int) -> tuple[TensorSpec, ...]:
    """The inputs that a UNet and a ControlNet of that configuration share, in optimum's order."""
    inputs = [
        float32(names.SAMPLE, "batch", config.in_channels, "height", "width"),
        float32(names.TIMESTEP, "batch"),
        float32(names.ENCODER_HIDDEN_STATES, "batch", "sequence", config.cross_attention_dim),
    ]
    if config.get("time_cond_proj_dim") is not None:
        inputs.append(float32(names.TIMESTEP_COND, "batch", config.time_cond_proj_dim))
    if config.addition_embed_type == "text_time":
        embedded = num_time_ids * config.addition_time_embed_dim
        pooled_width = config.projection_class_embeddings_input_dim - embedded
        inputs.append(float32(names.TEXT_EMBEDS, "batch", pooled_width))
        inputs.append(float32(names.TIME_IDS, "batch", num_time_ids))
    return tuple(inputs)


def arguments_from_inputs(
    specs: Sequence[TensorSpec], inputs: Sequence[torch.Tensor]
) -> dict[str, Any]:
    """The first inputs of a signature as keywords of diffusers' models, which have these names;
    SDXL's are together in one."""
    arguments = {spec.name: value for spec, value in zip(specs, inputs, strict=False)}
    added = {name: arguments.pop(name) for name in _ADDED if name in arguments}
    return {**arguments, "added_cond_kwargs": added}


_ADDED = (names.TEXT_EMBEDS, names.TIME_IDS)


def random_denoiser_inputs(
    config: Any, num_time_ids: int, size: TraceSize, random: torch.Generator
) -> tuple[torch.Tensor, ...]:
    """Values for `denoiser_inputs`."""
    sizes = asdict(size)

    def values(spec: TensorSpec) -> torch.Tensor:
        shape = [sizes[dim] if isinstance(dim, str) else dim for dim in spec.shape]
        if spec.name in (names.TIMESTEP, names.TIME_IDS):  # sizes are about as large as timesteps
            return torch.randint(1000, shape, generator=random).float()
        return torch.randn(shape, generator=random)

    return tuple(map(values, denoiser_inputs(config, num_time_ids)))
