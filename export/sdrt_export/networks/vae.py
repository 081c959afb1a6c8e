"""The VAE's decoder and encoder as networks."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sdrt import tensor_names as names
from sdrt.bundle.manifest import TINY
from sdrt_engines import Signature
from sdrt_export.networks.attention import PlainAttention
from sdrt_export.networks.network import Network, TraceSize, float32


class VaeDecoder(Network):
    """Latents, already divided by the scaling factor, to images in -1..1.

    Source: `AutoencoderKL.decode` of diffusers.
    """

    name = names.VAE_DECODER
    role = "vae decoder"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model.encoder = self.model.quant_conv = None
        config, scale = model.config, _scale_of_vae(model)
        latents = ("batch", config.latent_channels, "height", "width")
        image = ("batch", config.out_channels, f"{scale}*height", f"{scale}*width")
        self.signature = Signature(
            (float32(names.LATENT_SAMPLE, *latents),), (float32(names.SAMPLE, *image),)
        )

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        if self.model.post_quant_conv is not None:
            latent_sample = self.model.post_quant_conv(latent_sample)
        return self.model.decoder(latent_sample)

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        shape = (size.batch, self.model.config.latent_channels, size.height, size.width)
        return (torch.randn(shape, generator=random),)

    def simplify(self) -> None:
        self.model.set_attn_processor(PlainAttention())


class VaeEncoder(Network):
    """Images in -1..1 to the mean and log-variance of their latents, not yet scaled.

    Source: `AutoencoderKL.encode` of diffusers.
    """

    name = names.VAE_ENCODER
    role = "vae encoder"

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model.decoder = self.model.post_quant_conv = None
        config, scale = model.config, _scale_of_vae(model)
        image = ("batch", config.in_channels, "height", "width")
        parameters = ("batch", 2 * config.latent_channels, f"height/{scale}", f"width/{scale}")
        self.signature = Signature(
            (float32(names.SAMPLE, *image),), (float32(names.LATENT_PARAMETERS, *parameters),)
        )

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        parameters = self.model.encoder(sample)
        return parameters if self.model.quant_conv is None else self.model.quant_conv(parameters)

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        scale = _scale_of_vae(self.model)
        shape = (size.batch, self.model.config.in_channels, scale * size.height, scale * size.width)
        return (2 * torch.rand(shape, generator=random) - 1,)

    def simplify(self) -> None:
        self.model.set_attn_processor(PlainAttention())


class TinyVaeDecoder(Network):
    """Latents as the denoiser has them to images in -1..1.

    Source: `AutoencoderTiny.decode` of diffusers; https://github.com/madebyollin/taesd.
    """

    name = names.TINY_VAE_DECODER
    role = "vae decoder"
    variant = TINY

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model.encoder = None
        config, scale = model.config, _scale_of_tiny(model.config.decoder_block_out_channels)
        latents = ("batch", config.latent_channels, "height", "width")
        image = ("batch", config.out_channels, f"{scale}*height", f"{scale}*width")
        self.signature = Signature(
            (float32(names.LATENT_SAMPLE, *latents),), (float32(names.SAMPLE, *image),)
        )

    def forward(self, latent_sample: torch.Tensor) -> torch.Tensor:
        image: torch.Tensor = self.model.decoder(latent_sample)
        return image

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        shape = (size.batch, self.model.config.latent_channels, size.height, size.width)
        return (torch.randn(shape, generator=random),)


class TinyVaeEncoder(Network):
    """Images in -1..1 to their latents, which have no distribution.

    Source: `AutoencoderTiny.encode` of diffusers.
    """

    name = names.TINY_VAE_ENCODER
    role = "vae encoder"
    variant = TINY

    def __init__(self, model: nn.Module) -> None:
        super().__init__(model)
        self.model.decoder = None
        config = model.config
        self.scale = _scale_of_tiny(config.encoder_block_out_channels)
        image = ("batch", config.in_channels, "height", "width")
        sizes = (f"height/{self.scale}", f"width/{self.scale}")
        self.signature = Signature(
            (float32(names.SAMPLE, *image),),
            (float32(names.LATENTS, "batch", config.latent_channels, *sizes),),
        )

    def forward(self, sample: torch.Tensor) -> torch.Tensor:
        latents: torch.Tensor = self.model.encoder(sample)
        return latents

    def inputs_at(self, size: TraceSize, random: torch.Generator) -> tuple[torch.Tensor, ...]:
        height, width = self.scale * size.height, self.scale * size.width
        shape = (size.batch, self.model.config.in_channels, height, width)
        return (2 * torch.rand(shape, generator=random) - 1,)


def _scale_of_tiny(levels: Sequence[int]) -> int:
    """The number of image pixels per latent pixel, in each direction."""
    return 1 << (len(levels) - 1)


def _scale_of_vae(model: nn.Module) -> int:
    """The number of image pixels per latent pixel, in each direction."""
    return 1 << (len(model.config.block_out_channels) - 1)
