"""A checkpoint's text encoders: with new tokens, and with the token that ends a text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sdrt.adapters.embeddings import Embedding
from sdrt.bundle.optimum_folder import fields_from_file
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt.text.tokenizer_config import TokenizerConfig
from sdrt_export.checkpoints.checkpoint import Checkpoint
from sdrt_export.checkpoints.embeddings import tokens_of_encoders
from sdrt_export.checkpoints.parts import PartKind

LEGACY_EOS = 2  # in published configurations: their models take the greatest id of a text


def with_embeddings(checkpoint: Checkpoint, embeddings: Sequence[Embedding]) -> Checkpoint:
    """The checkpoint with the tokens of these embeddings. CheckpointError if one does not fit."""
    if not embeddings:
        return checkpoint
    encoders = {}
    for part in checkpoint.kind.parts_for("text encoder"):
        width = fields_from_file(checkpoint.folder / part.config).integer("hidden_size", 512)
        assert part.tokenizer is not None, "a text encoder has a tokenizer"
        encoders[part.folder] = checkpoint.folder / part.tokenizer, width
    return replace(checkpoint, tokens=tokens_of_encoders(embeddings, encoders))


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
