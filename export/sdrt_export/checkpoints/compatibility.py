"""Whether the configurations of a checkpoint fit sdrt, and each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeAlias

from sdrt.bundle.optimum_folder import MODEL_INDEX, fields_from_file
from sdrt.errors import SdrtError
from sdrt.families.family import Family
from sdrt.families.known import family_from_configs, require_known_pipeline
from sdrt.files.json_fields import JsonFields, within
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_export.errors import CheckpointError

Config: TypeAlias = dict[str, Any]

MAX_SIZE = 1 << 17  # of what a configuration names, before torch takes it at its word

# Options that give a UNet further inputs. Stable Diffusion 1 and 2 have none of them.
FOREIGN_UNET_OPTIONS = (
    *("addition_embed_type", "class_embed_type", "encoder_hid_dim_type", "num_class_embeds"),
)


def family_of_folder(folder: Path, source: str) -> Family:
    """The family of the checkpoint in `folder`, whose parts all fit.

    CheckpointError where one is of another kind than sdrt exports, or does not fit another.
    """
    try:
        index, text_encoder, unet, vae = (
            fields_from_file(folder / name).values
            for name in (MODEL_INDEX, *(f"{model}/config.json" for model in _MODELS))
        )
        require_known_pipeline(str(index.get("_class_name")))
        _refuse(_complaints_about_kind(text_encoder, unet, vae))
        _check_sizes(folder)
        _refuse(_complaints_about_fit(text_encoder, unet, vae))
        family = family_from_configs(lambda part: _config(folder, part))
        tokenizer = ClipTokenizer.open(folder / "tokenizer")
        _refuse(_complaints_about_tokens(tokenizer, text_encoder))
    except SdrtError as error:
        raise CheckpointError(f"'{source}' cannot be exported: {error}") from error
    return family


def _config(folder: Path, part: str) -> tuple[str, JsonFields]:
    """The configuration of a part, as `families.known` asks for it."""
    path = folder / (MODEL_INDEX if part == "model_index" else f"{part}/config.json")
    return str(path), fields_from_file(path)


_MODELS = ("text_encoder", "unet", "vae")

_SIZES = {  # of which torch would make tensors unasked
    "text_encoder": ("hidden_size", "intermediate_size", "num_hidden_layers", "vocab_size"),
    "unet": ("in_channels", "out_channels", "block_out_channels", "layers_per_block"),
    "vae": ("in_channels", "out_channels", "latent_channels", "block_out_channels"),
}


def _refuse(complaints: Iterator[str]) -> None:
    for complaint in complaints:
        raise CheckpointError(complaint)


def _check_sizes(folder: Path) -> None:
    for model, names in _SIZES.items():
        path = folder / model / "config.json"
        fields = fields_from_file(path)
        with within(str(path)):
            for name in names:
                sizes(fields, name, default=[1])


def _complaints_about_kind(text_encoder: Config, unet: Config, vae: Config) -> Iterator[str]:
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


def size(fields: JsonFields, name: str, default: int) -> int:
    """A whole number from 1 on. SdrtError where there is something else."""
    return _checked(name, fields.integer(name, default))


def sizes(fields: JsonFields, name: str, default: list[int]) -> list[int]:
    """A list of them, not empty; a single number stands for as many as `default` has."""
    value = fields.values.get(name)
    if value is None:
        return default
    if not isinstance(value, list):
        return [size(fields, name, 1)] * len(default)
    if not value:
        raise CheckpointError(f"{name}: got [], expected whole numbers")
    return [_checked(name, number) for number in value]


def _checked(name: str, number: object) -> int:
    if type(number) is not int or not 1 <= number <= MAX_SIZE:
        raise CheckpointError(
            f"{name}: got {number!r:.40}, expected a whole number from 1 to {MAX_SIZE}"
        )
    return number
