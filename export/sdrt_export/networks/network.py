"""Each part of a checkpoint as a network: flat tensors in and out, under the names of a bundle."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from sdrt import tensor_names as names
from sdrt.bundle.optimum_folder import MODEL_NAME
from sdrt_engines import Signature, TensorSpec
from sdrt_export.networks.attention import PlainAttention


@dataclass(frozen=True)
class Size:
    """One choice of the sizes that networks leave open. Height and width count latent pixels."""

    batch: int
    height: int
    width: int
    sequence: int


class Network(nn.Module, ABC):
    """A part of a checkpoint behind a flat signature, in float32.

    The part is `model`; the weights keep the names that they have there.
    """

    name: str
    file_name = MODEL_NAME
    signature: Signature

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model.float().eval().requires_grad_(False)

    @abstractmethod
    def inputs_at(self, size: Size, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        """Random inputs in the order of the signature."""

    def simplify(self) -> None:
        """Prepares tracing: from here on the model runs the same sums in a plainer way."""


class TextEncoder(Network):
    """CLIP's text encoder, with each layer's states before and after the final layer norm.

    Source: `CLIPTextModel` of transformers.
    """

    name = names.TEXT_ENCODER

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        tokens = ("batch", model.config.max_position_embeddings)
        states = (*tokens, model.config.hidden_size)
        layers = range(model.config.num_hidden_layers + 1)
        self.signature = Signature(
            inputs=(TensorSpec(names.INPUT_IDS, np.dtype(np.int64), tokens),),
            outputs=(
                float32(names.LAST_HIDDEN_STATE, *states),
                float32(names.POOLER_OUTPUT, "batch", model.config.hidden_size),
                *(float32(names.hidden_state(i), *states) for i in layers),
                *(float32(names.normed_hidden_state(i), *states) for i in layers),
            ),
        )

    def forward(self, input_ids: torch.Tensor) -> tuple[torch.Tensor, ...]:
        output = self.model(input_ids, output_hidden_states=True)
        states = output.hidden_states
        norm = _submodule(self.model, "final_layer_norm")
        return output.last_hidden_state, output.pooler_output, *states, *map(norm, states)

    def inputs_at(self, size: Size, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        config = self.model.config
        tokens = (size.batch, config.max_position_embeddings)
        return (torch.randint(config.vocab_size, tokens, generator=random),)


class UNet(Network):
    """The denoiser at a vector of timesteps, one for each sample.

    Source: `UNet2DConditionModel` of diffusers; `timestep_cond` where it was distilled (LCM).
    """

    name = names.UNET

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
        """The model's answer; `residuals` are the keywords under which it takes a ControlNet's."""
        (out_sample,) = self.model(
            *(sample, timestep, encoder_hidden_states),
            timestep_cond=timestep_cond,
            return_dict=False,
            **residuals,
        )
        return out_sample

    def inputs_at(self, size: Size, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        inputs = random_denoiser_inputs(self.model.config, size, random)
        width = self.model.config.time_cond_proj_dim
        if width is None:
            return inputs
        return *inputs, torch.randn((size.batch, width), generator=random)

    def simplify(self) -> None:
        self.model.set_attn_processor(PlainAttention())
        # diffusers upsamples by 2, except that for sizes that this does not fit it upsamples to the
        # size of the skip connection. With so many upsamplers no size fits, so the graph holds the
        # general way, and pictures may be any multiple of 8 pixels.
        self.model.num_upsamplers = 32


class VaeDecoder(Network):
    """Latents, already divided by the scaling factor, to pictures in -1..1.

    Source: `AutoencoderKL.decode` of diffusers.
    """

    name = names.VAE_DECODER

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model.encoder = self.model.quant_conv = None
        config, scale = model.config, _scale_of_vae(model)
        latents = ("batch", config.latent_channels, "height", "width")
        picture = ("batch", config.out_channels, f"{scale}*height", f"{scale}*width")
        self.signature = Signature(
            (float32(names.LATENT_SAMPLE, *latents),), (float32(names.SAMPLE, *picture),)
        )

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        if self.model.post_quant_conv is not None:
            latent_sample = self.model.post_quant_conv(latent_sample)
        return self.model.decoder(latent_sample)

    def inputs_at(self, size: Size, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        shape = (size.batch, self.model.config.latent_channels, size.height, size.width)
        return (torch.randn(shape, generator=random),)

    def simplify(self) -> None:
        self.model.set_attn_processor(PlainAttention())


class VaeEncoder(Network):
    """Pictures in -1..1 to the mean and log-variance of their latents, not yet scaled.

    Source: `AutoencoderKL.encode` of diffusers.
    """

    name = names.VAE_ENCODER

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model.decoder = self.model.post_quant_conv = None
        config, scale = model.config, _scale_of_vae(model)
        picture = ("batch", config.in_channels, "height", "width")
        parameters = ("batch", 2 * config.latent_channels, f"height/{scale}", f"width/{scale}")
        self.signature = Signature(
            (float32(names.SAMPLE, *picture),), (float32(names.LATENT_PARAMETERS, *parameters),)
        )

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        parameters = self.model.encoder(sample)
        return parameters if self.model.quant_conv is None else self.model.quant_conv(parameters)

    def inputs_at(self, size: Size, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        scale = _scale_of_vae(self.model)
        shape = (size.batch, self.model.config.in_channels, scale * size.height, scale * size.width)
        return (2 * torch.rand(shape, generator=random) - 1,)

    def simplify(self) -> None:
        self.model.set_attn_processor(PlainAttention())


def float32(name: str, *shape: int | str) -> TensorSpec:
    """The spec of a float32 tensor."""
    return TensorSpec(name, np.dtype(np.float32), shape)


def denoiser_inputs(config: Any) -> tuple[TensorSpec, ...]:
    """What a UNet and a ControlNet of that configuration both take."""
    return (
        float32(names.SAMPLE, "batch", config.in_channels, "height", "width"),
        float32(names.TIMESTEP, "batch"),
        float32(names.ENCODER_HIDDEN_STATES, "batch", "sequence", config.cross_attention_dim),
    )


def random_denoiser_inputs(
    config: Any, size: Size, random: torch.Generator
) -> tuple[torch.Tensor, ...]:
    """Values for `denoiser_inputs`."""
    sample = (size.batch, config.in_channels, size.height, size.width)
    context = (size.batch, size.sequence, config.cross_attention_dim)
    return (
        torch.randn(sample, generator=random),
        torch.randint(1000, (size.batch,), generator=random).float(),
        torch.randn(context, generator=random),
    )


def _submodule(model: nn.Module, name: str) -> nn.Module:
    """The submodule of that name, at any depth: transformers has moved them between versions."""
    return next(found for path, found in model.named_modules() if path.split(".")[-1] == name)


def _scale_of_vae(model: nn.Module) -> int:
    """How many pixels of the picture, in each direction, one latent pixel stands for."""
    return 1 << (len(model.config.block_out_channels) - 1)
