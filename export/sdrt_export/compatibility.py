"""Whether the configurations of a checkpoint fit sdrt, and each other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sdrt.errors import SdrtError
from sdrt.json_fields import JsonFields, within
from sdrt.onnx_folder import MODEL_INDEX, family_from_configs, fields_from_file
from sdrt.tokenizer import ClipTokenizer
from sdrt_export.errors import CheckpointError

Config: TypeAlias = dict[str, Any]

FAMILIES = ("stable-diffusion-1", "stable-diffusion-2")

# Options that give a UNet further inputs. Stable Diffusion 1 and 2 have none of them.
FOREIGN_UNET_OPTIONS = (
    *("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds"),
)


def family_of_folder(folder: Path, source: str) -> str:
    """`stable-diffusion-1` or `-2`, of the checkpoint in `folder`, whose parts all fit.

    CheckpointError where one is of another kind than sdrt exports, or does not fit another.
    """
    try:
        index, text_encoder, unet, vae = (
            fields_from_file(folder / name).values
            for name in (MODEL_INDEX, *(f"{model}/config.json" for model in _MODELS))
        )
        family = family_from_configs(str(index.get("_class_name")), unet)
        for complaint in (
            *_complaints_about_kind(family, text_encoder, unet, vae),
            *_complaints_about_fit(text_encoder, unet, vae),
            *_complaints_about_tokens(ClipTokenizer.open(folder / "tokenizer"), text_encoder),
        ):
            raise CheckpointError(complaint)
    except SdrtError as error:
        raise CheckpointError(f"'{source}' cannot be exported: {error}") from error
    return family


_MODELS = ("text_encoder", "unet", "vae")


def _complaints_about_kind(
    family: str, text_encoder: Config, unet: Config, vae: Config
) -> Iterator[str]:
    if family not in FAMILIES:
        yield f"its family is {family}, this version of sdrt exports {' and '.join(FAMILIES)}"
    for model, got, expected in (
        ("text encoder", text_encoder.get("model_type"), "clip_text_model"),
        ("UNet", unet.get("_class_name"), "UNet2DConditionModel"),
        ("VAE", vae.get("_class_name"), "AutoencoderKL"),
    ):
        if got != expected:
            yield f"its {model} is {got}, expected {expected}"
    for option in FOREIGN_UNET_OPTIONS:
        if unet.get(option) is not None:
            yield f"its UNet has {option}={unet[option]!r}, which Stable Diffusion 1 and 2 lack"
    padding = unet.get("downsample_padding", 1)
    if padding != 1:
        yield f"its UNet has downsample_padding={padding!r}, expected 1: sizes are rounded up"


def _complaints_about_fit(text_encoder: Config, unet: Config, vae: Config) -> Iterator[str]:
    width, expected = text_encoder.get("hidden_size"), unet.get("cross_attention_dim")
    if width != expected:
        yield (
            f"its text encoder gives vectors of {width}, its UNet expects {expected} "
            "(cross_attention_dim): take both from one checkpoint"
        )
    channels, expected = vae.get("latent_channels"), unet.get("out_channels")
    if channels != expected:
        yield (
            f"its VAE has {channels} latent channels, its UNet gives {expected}: "
            "take both from one checkpoint"
        )


def _complaints_about_tokens(tokenizer: ClipTokenizer, text_encoder: Config) -> Iterator[str]:
    length, expected = tokenizer.max_length, text_encoder.get("max_position_embeddings")
    if length != expected:
        yield (
            f"its tokenizer gives {length} tokens, its text encoder expects {expected} "
            "(max_position_embeddings): take both from one checkpoint"
        )
    num_tokens, expected = tokenizer.backend.get_vocab_size(), text_encoder.get("vocab_size")
    if not isinstance(expected, int) or num_tokens > expected:
        yield (
            f"its tokenizer knows {num_tokens} tokens, its text encoder {expected} (vocab_size): "
            "take both from one checkpoint"
        )


@dataclass(frozen=True)
class Host:
    """What a ControlNet must fit."""

    unet: JsonFields  # of its config.json
    pixels_per_latent: int  # in each direction


def host_of_folder(folder: Path, source: str) -> Host:
    """Of the checkpoint in `folder`. CheckpointError where its VAE's configuration is malformed."""
    unet, vae = (folder / model / "config.json" for model in ("unet", "vae"))
    try:
        with within(str(vae)):
            levels = _counts(fields_from_file(vae), "block_out_channels", [64])
        return Host(fields_from_file(unet), 1 << (len(levels) - 1))
    except SdrtError as error:
        raise CheckpointError(f"'{source}' cannot be exported: {error}") from error


def complaints_about_controlnet(controlnet: JsonFields, host: Host) -> Iterator[str]:
    """Why diffusers' ControlNet of that configuration is none that sdrt exports for `host`.

    SdrtError where a field is malformed.
    """
    kind = controlnet.text("_class_name", default="no model of diffusers")
    if kind != "ControlNetModel":
        yield f"it is {kind}, expected ControlNetModel"
    for option in FOREIGN_UNET_OPTIONS:
        value = controlnet.values.get(option)
        if value is not None:
            yield f"it has {option}={value!r}, which Stable Diffusion 1 and 2 lack"
    padding = controlnet.integer("downsample_padding", 1)
    if padding != 1:
        yield f"it has downsample_padding={padding}, expected 1, as the UNet has"
    order = controlnet.text("controlnet_conditioning_channel_order", default="rgb")
    if order not in ("rgb", "bgr"):
        yield f"its controlnet_conditioning_channel_order is {order}, expected rgb or bgr"
    yield from _complaints_about_inputs(controlnet, host)
    yield from _complaints_about_residuals(controlnet, host.unet)


# What is not in a configuration is what diffusers assumes, for UNets and ControlNets the same.
_WIDTH, _LATENT_CHANNELS, _CHANNELS, _LAYERS = 1280, 4, [320, 640, 1280, 1280], 2


def _complaints_about_inputs(controlnet: JsonFields, host: Host) -> Iterator[str]:
    width = controlnet.integer("cross_attention_dim", _WIDTH)
    expected = host.unet.integer("cross_attention_dim", _WIDTH)
    if width != expected:
        yield (
            f"it takes text vectors of {width}, the UNet of {expected} (cross_attention_dim): "
            "it is made for another version of Stable Diffusion"
        )
    # An inpainting UNet takes a mask and a picture too, but gives plain latents, and diffusers'
    # inpainting pipeline hands those to the ControlNet.
    channels = controlnet.integer("in_channels", _LATENT_CHANNELS)
    expected = host.unet.integer("out_channels", _LATENT_CHANNELS)
    if channels != expected:
        yield (
            f"it takes latents of {channels} channels (in_channels), the UNet gives {expected}: "
            "it is made for another UNet"
        )
    levels = _counts(controlnet, "conditioning_embedding_out_channels", [16, 32, 96, 256])
    scale = 1 << (len(levels) - 1)
    if scale != host.pixels_per_latent:
        yield (
            f"it scales pictures down by {scale} (conditioning_embedding_out_channels), the VAE by "
            f"{host.pixels_per_latent}: it is made for another VAE"
        )


def _complaints_about_residuals(controlnet: JsonFields, unet: JsonFields) -> Iterator[str]:
    got, expected = (
        _counts(fields, "block_out_channels", _CHANNELS) for fields in (controlnet, unet)
    )
    if got != expected:
        yield (
            f"its residuals have {got} channels (block_out_channels), the UNet's skip connections "
            f"{expected}: it is made for another UNet"
        )
    got, expected = (_layers(fields, len(expected)) for fields in (controlnet, unet))
    if got != expected:
        yield (
            f"it gives {got} residuals per block (layers_per_block), the UNet has {expected} skip "
            "connections: it is made for another UNet"
        )


def _layers(fields: JsonFields, num_blocks: int) -> list[int]:
    """Layers of each block: a number for all of them, or a list."""
    if isinstance(fields.values.get("layers_per_block"), list):
        return _counts(fields, "layers_per_block", [])
    return [fields.integer("layers_per_block", _LAYERS)] * num_blocks


def _counts(fields: JsonFields, name: str, default: list[int]) -> list[int]:
    """A list of positive whole numbers."""
    values = default if fields.values.get(name) is None else fields.array(name)
    if not values or any(type(value) is not int or value < 1 for value in values):
        raise CheckpointError(f"{name}: got {values}, expected positive whole numbers")
    return values
