"""VAEs and tiny VAEs, recognised by their keys.

Sources: diffusers' `AutoencoderKL` and `AutoencoderTiny`, CompVis' `Encoder` and `Decoder`,
madebyollin's `taesd.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from sdrt.adapters.found import Layout, TinyVaeFile, VaeFile
from sdrt.adapters.safetensors import SafetensorsFile

_PREFIXES = ("first_stage_model.", "vae.", "")
_BLOCKS: Mapping[Layout, tuple[str, str]] = {  # of the encoder, of the decoder
    "ldm": ("encoder.down.0.block.0.norm1.weight", "decoder.up.0.block.0.norm1.weight"),
    "diffusers": (
        "encoder.down_blocks.0.resnets.0.norm1.weight",
        "decoder.up_blocks.0.resnets.0.norm1.weight",
    ),
}


def vae_file(file: SafetensorsFile) -> VaeFile | None:
    """The VAE that the file is or contains, or None."""
    for layout, blocks in _BLOCKS.items():
        for prefix in _PREFIXES:
            encoder, decoder = (prefix + block in file.tensors for block in blocks)
            channels = _latent_channels(file, prefix)
            if channels and (encoder or decoder):
                return VaeFile(layout, prefix, channels, encoder, decoder)
    return None


def _latent_channels(file: SafetensorsFile, prefix: str) -> int | None:
    if decoder := _conv_shape(file, f"{prefix}decoder.conv_in.weight"):
        return decoder[1]
    encoder = _conv_shape(file, f"{prefix}encoder.conv_out.weight")
    return encoder[0] // 2 if encoder else None  # means and variances


@dataclass(frozen=True)
class _Half:
    """The encoder or the decoder of a tiny VAE, in one layout."""

    prefixes: tuple[str, ...]
    convolutions: tuple[str, ...]  # some that it has
    latent: tuple[str, int]  # one that reads or writes latents, and the axis that counts channels

    def prefix_in(self, file: SafetensorsFile) -> str | None:
        """The prefix of its keys in the file, or None."""
        for prefix in self.prefixes:
            keys = (prefix + name for name in (*self.convolutions, self.latent[0]))
            if all(_conv_shape(file, key) for key in keys):
                return prefix
        return None


_TINY: Mapping[Literal["diffusers", "taesd"], tuple[_Half, _Half]] = {
    "diffusers": (
        _Half(("encoder.layers.",), ("0.weight", "1.conv.0.weight"), ("14.weight", 0)),
        _Half(("decoder.layers.",), ("0.weight", "2.conv.0.weight"), ("0.weight", 1)),
    ),
    "taesd": (
        _Half(("taesd_encoder.", ""), ("0.weight", "1.conv.0.weight"), ("14.weight", 0)),
        _Half(("taesd_decoder.", ""), ("1.weight", "3.conv.0.weight"), ("1.weight", 1)),
    ),
}


def tiny_vae_file(file: SafetensorsFile) -> TinyVaeFile | None:
    """The tiny VAE that the file is, or None."""
    for layout, halves in _TINY.items():
        encoder, decoder = prefixes = tuple(half.prefix_in(file) for half in halves)
        for half, prefix in zip(halves, prefixes, strict=True):
            if prefix is not None:
                name, axis = half.latent
                channels = file.tensors[prefix + name].shape[axis]
                return TinyVaeFile(layout, encoder, decoder, channels)
    return None


def _conv_shape(file: SafetensorsFile, key: str) -> tuple[int, ...] | None:
    """The shape of a convolution's weight, or None if there is no such weight."""
    info = file.tensors.get(key)
    return info.shape if info and len(info.shape) == 4 else None
