"""Checks that the configurations of a checkpoint fit sdrt, and each other."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeAlias

from sdrt.bundle.optimum_folder import MODEL_INDEX, configs_of, fields_from_file
from sdrt.errors import SdrtError
from sdrt.families.family import Family
from sdrt.families.known import family_from_configs, require_known_pipeline
from sdrt.files.json_fields import JsonFields, within
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_export.checkpoints.parts import (
    REFINER_UNET,
    SCHEDULER_CONFIG,
    CheckpointKind,
    PartKind,
    kind_of_index,
)
from sdrt_export.errors import CheckpointError

Config: TypeAlias = dict[str, Any]

MAX_SIZE = 1 << 17  # the largest size in a configuration for which torch may allocate
_WIDTH = 512  # the default of CLIPTextConfig


def kind_of_folder(folder: Path, source: str) -> CheckpointKind:
    """The kind of the checkpoint in `folder`. CheckpointError if sdrt does not export its family.

    The pipeline's class decides: a family's name is not known before all configurations are read.
    """
    try:
        index = fields_from_file(folder / MODEL_INDEX)
        require_known_pipeline(str(index.values.get("_class_name")))
    except SdrtError as error:
        raise refusal(source, error) from error
    return kind_of_index(index)


def family_of_folder(folder: Path, source: str, kind: CheckpointKind) -> Family:
    """The family of the checkpoint in `folder`, after all its parts have been checked.

    CheckpointError if a part is not what `kind` expects, or does not fit another.
    """
    try:
        configs = {part: fields_from_file(folder / part.config).values for part in kind.parts}
        _refuse(_complaints_about_kind(kind, configs))
        _check_sizes(folder, kind)
        _refuse(_complaints_about_fit(kind, configs))
        _refuse(_complaints_about_time_ids(folder, kind, configs))
        _refuse(_complaints_about_scheduler(folder))
        family = family_from_configs(configs_of(folder))
        _refuse(_complaints_about_tokenizers(folder, kind, configs))
    except SdrtError as error:
        raise refusal(source, error) from error
    return family


def refusal(source: str, error: SdrtError) -> CheckpointError:
    """The error for a checkpoint that cannot be exported because of `error`."""
    return CheckpointError(f"'{source}' cannot be exported: {error}")


_HINTS: Mapping[str, str] = {
    "encoder_hid_dim_type": ": unload the IP-Adapter, which sdrt does not run, and save again",
    "class_embed_type": ": it is an upscaler or an unCLIP model, which sdrt does not run",
    "num_class_embeds": ": it is an upscaler, which sdrt does not run",
}


def complaints_about_options(
    part: PartKind, config: Config, kind: CheckpointKind, subject: str
) -> Iterator[str]:
    """Complaints about options that tell kinds of checkpoints apart."""
    for option in part.absent:
        if config.get(option) is not None:
            hint = _HINTS.get(option, "")
            yield f"{subject} has {option}={config[option]!r}, which {kind.title} lack{hint}"
    for option, expected in part.present:
        if config.get(option) != expected:
            yield (
                f"{subject} has {option}={config.get(option)!r}, expected {expected!r} as in "
                f"{kind.title}"
            )


def _refuse(complaints: Iterator[str]) -> None:
    for complaint in complaints:
        raise CheckpointError(complaint)


def _check_sizes(folder: Path, kind: CheckpointKind) -> None:
    for part in kind.parts:
        path = folder / part.config
        fields = fields_from_file(path)
        with within(str(path)):
            for name in part.sizes:
                sizes(fields, name, default=[1])


def _complaints_about_kind(
    kind: CheckpointKind, configs: Mapping[PartKind, Config]
) -> Iterator[str]:
    for part, config in configs.items():
        got = config.get(part.library.class_field)
        if got != part.class_name:
            yield f"its {part.title} is {got}, expected {part.class_name}"
        named = config.get("architectures")  # older configurations lack it
        if part.architecture and named and [part.architecture] != named:
            yield f"its {part.title} is {named!r:.80}, expected [{part.architecture!r}]"
    for part, config in configs.items():
        yield from complaints_about_options(part, config, kind, f"its {part.title}")
    denoiser = kind.part("denoiser")
    padding = configs[denoiser].get("downsample_padding", 1)
    if padding != 1:
        yield (
            f"its {denoiser.title} has downsample_padding={padding!r}, expected 1: sizes are "
            "rounded up"
        )


def _complaints_about_fit(
    kind: CheckpointKind, configs: Mapping[PartKind, Config]
) -> Iterator[str]:
    denoiser, vae = configs[kind.part("denoiser")], configs[kind.part("vae")]
    encoders = kind.parts_for("text encoder")
    titles = " and ".join(encoder.title for encoder in encoders)
    verb = "gives" if len(encoders) == 1 else "give"
    width = sum(size(JsonFields(configs[encoder]), "hidden_size", _WIDTH) for encoder in encoders)
    expected = denoiser.get("cross_attention_dim")
    if width != expected:
        yield (
            f"its {titles} {verb} vectors of {width}, its UNet expects {expected} "
            "(cross_attention_dim): take both from one checkpoint"
        )
    channels, expected = vae.get("latent_channels"), denoiser.get("out_channels")
    if channels != expected:
        yield (
            f"its VAE has {channels} latent channels, its UNet has {expected}: "
            "take both from one checkpoint"
        )


def _complaints_about_time_ids(
    folder: Path, kind: CheckpointKind, configs: Mapping[PartKind, Config]
) -> Iterator[str]:
    """Complaints about the vector that an SDXL UNet adds to its timestep: the pooled text, and each
    number about the image embedded.

    Source: `_get_add_time_ids` of diffusers' pipelines, which compare the same numbers.
    """
    denoiser, encoder = kind.part("denoiser"), kind.parts_for("text encoder")[-1]
    count = denoiser.num_time_ids
    if not count:
        return
    unet = JsonFields(configs[denoiser])
    pooled = size(JsonFields(configs[encoder]), "projection_dim", _WIDTH)
    embedded = unet.integer("addition_time_embed_dim")
    expected = unet.integer("projection_class_embeddings_input_dim")
    if pooled + count * embedded != expected:
        yield (
            f"its {encoder.title} gives a pooled vector of {pooled} (projection_dim), and {count} "
            f"numbers about the image of {embedded} each (addition_time_embed_dim) make "
            f"{pooled + count * embedded}, its UNet expects {expected} "
            "(projection_class_embeddings_input_dim): take both from one checkpoint"
        )
    scored = fields_from_file(folder / MODEL_INDEX).flag("requires_aesthetics_score", default=False)
    if scored != (denoiser is REFINER_UNET):
        yield (
            f"its {MODEL_INDEX} has requires_aesthetics_score={scored}, but its UNet takes "
            f"{'a target size' if scored else 'an aesthetic score'}: set it to "
            f"{'false' if scored else 'true'}"
        )


def _complaints_about_scheduler(folder: Path) -> Iterator[str]:
    """Complaints about a scheduler whose networks no other scheduler fits; one that is only unknown
    can be replaced in each request."""
    name = fields_from_file(folder / SCHEDULER_CONFIG).text("_class_name", default="")
    if name.startswith("EDM"):
        yield (
            f"its scheduler is {name}, which sdrt does not run, and no other one scales the inputs "
            "of these networks (Playground 2.5, CosXL) alike: choose a checkpoint with another "
            "scheduler"
        )


def _complaints_about_tokenizers(
    folder: Path, kind: CheckpointKind, configs: Mapping[PartKind, Config]
) -> Iterator[str]:
    for encoder in kind.parts_for("text encoder"):
        if encoder.tokenizer is not None:
            tokenizer = ClipTokenizer.open(folder / encoder.tokenizer)
            yield from _complaints_about_tokens(tokenizer, configs[encoder], encoder)


def _complaints_about_tokens(
    tokenizer: ClipTokenizer, config: Config, encoder: PartKind
) -> Iterator[str]:
    length, expected = tokenizer.max_length, config.get("max_position_embeddings")
    if length != expected:
        yield (
            f"its {encoder.tokenizer} produces {length} tokens, its {encoder.title} expects "
            f"{expected} (max_position_embeddings): take both from one checkpoint"
        )
    num_tokens, expected = tokenizer.backend.get_vocab_size(), config.get("vocab_size")
    if not isinstance(expected, int) or num_tokens > expected:
        yield (
            f"its {encoder.tokenizer} has {num_tokens} tokens, its {encoder.title} {expected} "
            "(vocab_size): take both from one checkpoint"
        )


def size(fields: JsonFields, name: str, default: int) -> int:
    """A positive integer. SdrtError if the field holds anything else."""
    return _checked(name, fields.integer(name, default))


def sizes(fields: JsonFields, name: str, default: list[int]) -> list[int]:
    """A non-empty list of such integers; one integer is repeated to the length of `default`."""
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
