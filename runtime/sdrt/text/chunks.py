"""Chunks: the rows of a text encoder that a prompt of any length takes, as in A1111."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt.text.embedding_tokens import Ids
from sdrt.text.emphasis import Segment

BACKTRACK = 20  # A1111's default: a full chunk ends at a comma that is at most so many tokens back

_Token: TypeAlias = tuple[int, float]  # an id and its weight


@dataclass(frozen=True)
class Chunk:
    """A row of a text encoder, with bos, eos and padding."""

    ids: tuple[int, ...]  # L
    weights: tuple[float, ...] | None = None  # L; None: 1 for all


def chunks_from_segments(
    segments: Sequence[Segment], tokenizer: ClipTokenizer
) -> tuple[Chunk, ...]:
    """The chunks of a prompt, at least one.

    Source: A1111's `tokenize_line`. The words after a comma near the end of a full chunk move into
    the next one. The vectors of an embedding stay together.
    """
    size, comma = tokenizer.capacity, tokenizer.comma
    chunks: list[list[_Token]] = []
    row: list[_Token] = []
    last_comma: int | None = None
    for segment in segments:
        if segment.is_break:
            chunks.append(row)
            row, last_comma = [], None
            continue
        for ids in _fitting(tokenizer.token_ids(segment.text), size):
            if ids == (comma,):
                last_comma = len(row)
            while len(row) + len(ids) > size:
                end = len(row)
                if last_comma is not None and last_comma < size == end <= last_comma + BACKTRACK:
                    end = last_comma + 1
                chunks.append(row[:end])
                row, last_comma = row[end:], None
            row += ((index, segment.weight) for index in ids)
    if row or not chunks:
        chunks.append(row)
    return tuple(_chunk(tokens, tokenizer) for tokens in chunks)


def _fitting(tokens: Iterable[Ids], size: int) -> Iterator[Ids]:
    """The ids of each token, which stay in one chunk unless they are more than it holds."""
    for ids in tokens:
        for start in range(0, len(ids), size):
            yield ids[start : start + size]


def empty_chunk(tokenizer: ClipTokenizer) -> Chunk:
    """The chunk of an empty prompt."""
    return Chunk(tokenizer.row(()))


def _chunk(tokens: Sequence[_Token], tokenizer: ClipTokenizer) -> Chunk:
    ids = tokenizer.row([index for index, _ in tokens])
    if all(weight == 1 for _, weight in tokens):
        return Chunk(ids)
    weights = [1.0] * len(ids)  # of bos, eos and padding, too
    weights[tokenizer.place(len(tokens))] = [weight for _, weight in tokens]
    return Chunk(ids, tuple(weights))
