"""The files of a checkpoint in addition to its weights, written for one that lacks them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

from sdrt.bundle.optimum_folder import MODEL_INDEX
from sdrt_export.architectures import Architecture, Config
from sdrt_export.checkpoints.clip_vocabulary import write_json, write_tokenizer
from sdrt_export.checkpoints.parts import (
    SCHEDULER_CONFIG,
    TEXT_ENCODER,
    TEXT_ENCODER_2,
    UNET,
    VAE,
    PartKind,
)


def write_small_files(folder: Path, architecture: Architecture, merges: Sequence[str]) -> None:
    """Writes the configurations of a checkpoint and its tokenizers, whose merges are CLIP's."""
    for part in (TEXT_ENCODER, TEXT_ENCODER_2, UNET, VAE):
        if (config := getattr(architecture, part.folder)) is not None:
            write_config(folder, part, config)
    write_tokenizers(folder, architecture, merges)
    write_json(folder / SCHEDULER_CONFIG, architecture.scheduler)
    write_json(folder / MODEL_INDEX, index_of(architecture))


def write_config(folder: Path, part: PartKind, config: Config) -> None:
    """Writes the configuration of a model, with its class, into a checkpoint's folder."""
    named: dict[str, Any] = {part.library.class_field: part.class_name}
    if part.purpose == "text encoder":
        named["architectures"] = [part.architecture or "CLIPTextModel"]
    write_json(folder / part.config, {**named, **config})


def write_tokenizers(folder: Path, architecture: Architecture, merges: Sequence[str]) -> None:
    """Writes the tokenizer of each text encoder into a checkpoint's folder."""
    for encoder, config, pad_token in (
        (TEXT_ENCODER, architecture.text_encoder, architecture.pad_token),
        (TEXT_ENCODER_2, architecture.text_encoder_2, "!"),
    ):
        if config is not None and encoder.tokenizer is not None:
            length = config["max_position_embeddings"]
            write_tokenizer(folder / encoder.tokenizer, merges, pad_token, length)


def index_of(architecture: Architecture) -> dict[str, Any]:
    """The contents of model_index.json."""
    missing = [None, None]
    first = architecture.text_encoder is not None
    index: dict[str, Any] = {
        "_class_name": architecture.pipeline,
        "_diffusers_version": metadata.version("diffusers"),
        "feature_extractor": missing,
        "scheduler": ["diffusers", architecture.scheduler["_class_name"]],
        "text_encoder": ["transformers", "CLIPTextModel"] if first else missing,
        "tokenizer": ["transformers", "CLIPTokenizer"] if first else missing,
        "unet": ["diffusers", "UNet2DConditionModel"],
        "vae": ["diffusers", "AutoencoderKL"],
        **architecture.options,
    }
    if architecture.text_encoder_2 is None:
        return index | {"safety_checker": missing, "requires_safety_checker": False}
    return index | {
        "image_encoder": missing,
        "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
        "tokenizer_2": ["transformers", "CLIPTokenizer"],
    }
