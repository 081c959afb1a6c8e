"""Checks that a ControlNet fits the UNet that it controls."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from sdrt.bundle.optimum_folder import fields_from_file
from sdrt.errors import SdrtError
from sdrt.files.json_fields import JsonFields, within
from sdrt_export.checkpoints.compatibility import (
    complaints_about_options,
    kind_of_folder,
    refusal,
    size,
    sizes,
)
from sdrt_export.checkpoints.parts import CheckpointKind, PartKind
from sdrt_export.errors import CheckpointError


@dataclass(frozen=True)
class Host:
    """The models that a ControlNet must fit."""

    unet: JsonFields  # of its config.json
    pixels_per_latent: int  # in each direction
    kind: CheckpointKind  # of the UNet's checkpoint

    @property
    def controlnet(self) -> PartKind:
        """The row of its ControlNets. CheckpointError if it takes none."""
        if self.kind.controlnet is None:
            raise CheckpointError(
                f"{self.kind.title} take no ControlNets: export them with the base model"
            )
        return self.kind.controlnet


def host_of_folder(folder: Path, source: str) -> Host:
    """The host in a checkpoint. CheckpointError if its VAE's configuration is malformed."""
    kind = kind_of_folder(folder, source)
    unet, vae = (folder / kind.part(purpose).config for purpose in ("denoiser", "vae"))
    try:
        with within(str(vae)):
            levels = sizes(fields_from_file(vae), "block_out_channels", [64])
        return Host(fields_from_file(unet), 1 << (len(levels) - 1), kind)
    except SdrtError as error:
        raise refusal(source, error) from error


def complaints_about_controlnet(controlnet: JsonFields, host: Host) -> Iterator[str]:
    """The reasons why sdrt cannot export the ControlNet of that configuration for `host`.

    SdrtError if a field is malformed.
    """
    part = host.controlnet
    got = controlnet.text(part.library.class_field, default="not a model of diffusers")
    if got != part.class_name:
        yield f"it is {got}, expected {part.class_name}"
    yield from complaints_about_options(part, controlnet.values, host.kind, "it")
    padding = controlnet.integer("downsample_padding", 1)
    if padding != 1:
        yield f"it has downsample_padding={padding}, expected 1, like the UNet"
    order = controlnet.text("controlnet_conditioning_channel_order", default="rgb")
    if order not in ("rgb", "bgr"):
        yield f"its controlnet_conditioning_channel_order is {order}, expected rgb or bgr"
    yield from _complaints_about_inputs(controlnet, host)
    yield from _complaints_about_residuals(controlnet, host.unet)


# Defaults of diffusers for missing options, equal for UNets and ControlNets.
_WIDTH, _LATENT_CHANNELS, _CHANNELS, _LAYERS = 1280, 4, [320, 640, 1280, 1280], 2


def _complaints_about_inputs(controlnet: JsonFields, host: Host) -> Iterator[str]:
    width = size(controlnet, "cross_attention_dim", _WIDTH)
    expected = size(host.unet, "cross_attention_dim", _WIDTH)
    if width != expected:
        yield (
            f"it takes text vectors of {width}, the UNet of {expected} (cross_attention_dim): "
            "it is made for another version of Stable Diffusion"
        )
    if host.controlnet.num_time_ids:
        yield from _complaints_about_vector(controlnet, host.unet)
    # An inpainting UNet also takes a mask and an image, but outputs plain latents, and diffusers'
    # inpainting pipeline passes those to the ControlNet.
    channels = size(controlnet, "in_channels", _LATENT_CHANNELS)
    expected = size(host.unet, "out_channels", _LATENT_CHANNELS)
    if channels != expected:
        yield (
            f"it takes latents of {channels} channels (in_channels), the UNet outputs {expected}: "
            "it is made for another UNet"
        )
    levels = sizes(controlnet, "conditioning_embedding_out_channels", [16, 32, 96, 256])
    scale = 1 << (len(levels) - 1)
    if scale != host.pixels_per_latent:
        yield (
            f"it scales images down by {scale} (conditioning_embedding_out_channels), the VAE by "
            f"{host.pixels_per_latent}: it is made for another VAE"
        )


def _complaints_about_vector(controlnet: JsonFields, unet: JsonFields) -> Iterator[str]:
    option = "projection_class_embeddings_input_dim"
    got, expected = (fields.values.get(option) for fields in (controlnet, unet))
    if got != expected:
        yield (
            f"it takes pooled text and sizes in a vector of {got}, the UNet of {expected} "
            f"({option}): it is made for another UNet"
        )


def _complaints_about_residuals(controlnet: JsonFields, unet: JsonFields) -> Iterator[str]:
    got, expected = (
        sizes(fields, "block_out_channels", _CHANNELS) for fields in (controlnet, unet)
    )
    if got != expected:
        yield (
            f"its residuals have {got} channels (block_out_channels), the UNet's skip connections "
            f"{expected}: it is made for another UNet"
        )
    got, expected = (
        sizes(fields, "layers_per_block", [_LAYERS] * len(got)) for fields in (controlnet, unet)
    )
    if got != expected:
        yield (
            f"it has {got} residuals per block (layers_per_block), the UNet has {expected} skip "
            "connections: it is made for another UNet"
        )
