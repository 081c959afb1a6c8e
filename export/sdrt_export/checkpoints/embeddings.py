"""Embeddings for a checkpoint or a bundle: opened, and compared with its text encoders."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TypeAlias

from sdrt import tensor_names as names
from sdrt.adapters.embeddings import Embedding, embedding_from_file
from sdrt.adapters.number_types import Array
from sdrt.bundle.manifest import Merged
from sdrt_export.checkpoints.new_tokens import NewTokens, new_tokens
from sdrt_export.errors import CheckpointError

EmbeddingSource: TypeAlias = str | PathLike[str]
# Paths, or pairs of the name in prompts and the path.
EmbeddingSources: TypeAlias = Sequence[EmbeddingSource | tuple[str, EmbeddingSource]]
# The folder of a text encoder.
EncoderName: TypeAlias = str

_SHORT_HASH = 12  # digits, as in A1111


def embeddings_from_sources(sources: EmbeddingSources) -> tuple[Embedding, ...]:
    """The embeddings in safetensors files. FileError if one is broken or anything else."""
    pairs = [each if isinstance(each, tuple) else (None, each) for each in sources]
    return tuple(embedding_from_file(path, name) for name, path in pairs)


def tokens_of_encoders(
    embeddings: Sequence[Embedding], encoders: Mapping[EncoderName, tuple[Path, int]]
) -> dict[EncoderName, NewTokens]:
    """The new tokens of each text encoder, given the folder of its tokenizer and its width.

    CheckpointError for an embedding of other widths, or a name that is taken.
    """
    widths = [width for _, width in encoders.values()]
    of_refiner = [*encoders] == [names.TEXT_ENCODER_2]
    fitting = [_fitting(embedding, widths, of_refiner) for embedding in embeddings]
    return {
        name: new_tokens(folder, embeddings, [vectors[number] for vectors in fitting])
        for number, (name, (folder, _)) in enumerate(encoders.items())
    }


def records_of(embeddings: Sequence[Embedding]) -> tuple[Merged, ...]:
    """The embeddings as a manifest lists them."""
    return tuple(
        Merged("embedding", each.token, each.sha256, each.sha256[:_SHORT_HASH])
        for each in embeddings
    )


def _fitting(embedding: Embedding, widths: Sequence[int], of_refiner: bool) -> Sequence[Array]:
    """The vectors for text encoders of these widths. A refiner has SDXL's second one only."""
    vectors = embedding.vectors[-1:] if of_refiner else embedding.vectors
    if [values.shape[1] for values in vectors] != list(widths):
        got = [values.shape[1] for values in embedding.vectors]
        raise CheckpointError(
            f"'{embedding.path}' has vectors of width {_listed(got)}, expected {_listed(widths)}, "
            "that of the text encoders: it was made for another family"
        )
    return vectors


def _listed(widths: Sequence[int]) -> str:
    return " and ".join(map(str, widths))
