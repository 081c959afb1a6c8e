"""VAEs to exchange for a recipe's own: seeded random weights, images that use their range."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny

from checkpoints import tiny_pipeline


def tiny_vae(folder: Path, num_levels: int = 2, width: int = 6, **options: Any) -> Path:
    """Writes an AutoencoderTiny into `folder`, which it returns; 64 channels are TAESD's."""
    blocks = [1, *[2] * (num_levels - 1)]
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(num_levels)
        vae = AutoencoderTiny(
            encoder_block_out_channels=(width,) * num_levels,
            decoder_block_out_channels=(width,) * num_levels,
            num_encoder_blocks=tuple(blocks),
            num_decoder_blocks=tuple(reversed(blocks)),
            **options,
        ).eval()
        channels = vae.config.latent_channels
        image = vae.decode(torch.randn(1, channels, 16, 16)).sample
        last = vae.decoder.layers[-1]
        last.weight *= 0.8 / image.std()
        last.bias += 0.5
        pixels = torch.rand(1, 3, 16 << (num_levels - 1), 16 << (num_levels - 1)) * 2 - 1
        vae.encoder.layers[-1].weight /= vae.encode(pixels).latents.std()
    vae.save_pretrained(folder)
    return folder


def other_vae(recipe: str, folder: Path, **options: Any) -> Path:
    """Writes a VAE of the recipe's configuration, but other weights and these options."""
    own = tiny_pipeline(recipe).vae
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(99)
        vae = AutoencoderKL.from_config(dict(own.config) | options).eval()
        latents = torch.randn(1, vae.config.latent_channels, 16, 16)
        image = vae.decode(latents / vae.config.scaling_factor).sample
        vae.decoder.conv_out.weight *= 0.4 / image.std()
    vae.save_pretrained(folder)
    return folder
