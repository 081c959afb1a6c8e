"""A checkpoint's text encoders: with new tokens, and with the token that ends a text."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sdrt.bundle.optimum_folder import fields_from_file
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt.text.tokenizer_config import TokenizerConfig
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.embeddings import (
    EmbeddingSources,
    embeddings_from_sources,
    records_of,
    tokens_of_encoders,
)
from sdrt_export.checkpoints.parts import PartKind

LEGACY_EOS = 2  # in published configurations: their models take the greatest id of a text


def with_embeddings(checkpoint: Checkpoint, sources: EmbeddingSources) -> Checkpoint:
    """The checkpoint with the tokens of these embeddings. FileError if one is not an embedding,
    CheckpointError if it does not fit."""
    embeddings = embeddings_from_sources(sources)
    if not embeddings:
        return checkpoint
    encoders = {}
    for part in checkpoint.kind.parts_for("text encoder"):
        width = fields_from_file(checkpoint.folder / part.config).integer("hidden_size", 512)
        assert part.tokenizer is not None, "a text encoder has a tokenizer"
        encoders[part.folder] = checkpoint.folder / part.tokenizer, width
    return replace(
        checkpoint,
        tokens=tokens_of_encoders(embeddings, encoders),
        merged=(*checkpoint.merged, *records_of(embeddings)),
    )


def options_of_encoder(checkpoint: Checkpoint, kind: PartKind) -> dict[str, Any]:
    """The id of the end-of-text token, for a text encoder that does not know it: a token of an
    embedding has a greater one. Nothing for other models.

    Source: `CLIPTextTransformer` of transformers.
    """
    if kind.tokenizer is None:
        return {}
    config = fields_from_file(checkpoint.folder / kind.config).values
    if config.get("eos_token_id") != LEGACY_EOS:
        return {}
    folder = checkpoint.folder / kind.tokenizer
    eos_token = TokenizerConfig.from_folder(folder).roles["eos_token"]
    return {"eos_token_id": ClipTokenizer.open(folder).backend.token_to_id(eos_token)}
