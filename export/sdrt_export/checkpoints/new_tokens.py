"""The tokens of embeddings: in a tokenizer, and as rows of its text encoder's table.

Nothing here imports torch, so bad input is reported at once.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdrt.adapters.embeddings import Embedding
from sdrt.adapters.number_types import Array
from sdrt.errors import quoted
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt.text.embedding_tokens import ids_of_vectors
from sdrt.text.tokenizer_config import read_json_object
from sdrt_export.errors import CheckpointError

_RENAME = "choose another name: --embedding NAME=PATH"
_FLAGS = dict.fromkeys(("lstrip", "rstrip", "single_word", "special"), False) | {"normalized": True}
MAX_NAME = 100  # letters


@dataclass(frozen=True, eq=False)
class NewTokens:
    """Tokens with their ids, and the row of the table for each id, (D,) float32."""

    ids: Mapping[str, int]
    rows: Mapping[int, Array]

    def num_rows(self, before: int) -> int:
        """The rows of the table with these tokens, which had so many before."""
        return max(before, *(index + 1 for index in self.rows))


def new_tokens(
    tokenizer: Path, embeddings: Sequence[Embedding], vectors: Sequence[Array]
) -> NewTokens:
    """The tokens that a tokenizer's folder lacks; `vectors` (V, D) are those of each embedding.

    Matched as diffusers' tokenizers do: `tokenizers` finds them anywhere, in any case.
    CheckpointError for a name that is taken, or that no prompt could contain.
    """
    opened = ClipTokenizer.open(tokenizer)
    opened.backend.no_padding()
    before = dict(opened.vectors)
    ids: dict[str, int] = {}
    rows: dict[int, Array] = {}
    for embedding, values in zip(embeddings, vectors, strict=True):
        _check_name(embedding)
        if len(values) > opened.capacity:
            raise CheckpointError(
                f"'{embedding.path}' has {len(values)} vectors, a prompt holds {opened.capacity}"
            )
        added = [_added(token, embedding, opened) for token in embedding.tokens]
        ids |= zip(embedding.tokens, added, strict=True)
        rows |= zip(added, values, strict=True)
        if len(added) > 1:
            before[added[0]] = tuple(added)
    _check_found(embeddings, ids, opened)
    _check_vectors(before, opened)
    return NewTokens(ids, rows)


def write_tokens(folder: Path, tokens: NewTokens) -> None:
    """Adds the tokens to the files of a tokenizer in `folder`, where transformers reads them."""
    path = folder / "tokenizer_config.json"
    config = read_json_object(path, optional=True)
    if "added_tokens_decoder" in config:
        entries = {str(i): {"content": token, **_FLAGS} for token, i in tokens.ids.items()}
        config["added_tokens_decoder"] |= entries
        _write_json(path, config)
    path = folder / "added_tokens.json"
    _write_json(path, {**read_json_object(path, optional=True), **tokens.ids})


def _check_name(embedding: Embedding) -> None:
    token = embedding.token
    try:
        token.encode()
    except UnicodeEncodeError as error:
        raise CheckpointError(
            f"{embedding.path}: the name {quoted(token)} cannot be encoded as UTF-8: {_RENAME}"
        ) from error
    if not token or token != token.strip() or len(token) > MAX_NAME:
        raise CheckpointError(
            f"{embedding.path}: got the name {quoted(token)}, expected 1 to {MAX_NAME} letters "
            f"without spaces at its ends: {_RENAME}"
        )


def _added(token: str, embedding: Embedding, tokenizer: ClipTokenizer) -> int:
    """The id of a token after it was added."""
    from tokenizers import AddedToken

    backend = tokenizer.backend
    if backend.token_to_id(token) is not None:
        raise CheckpointError(
            f"{embedding.path}: {quoted(token)} is a token of the tokenizer already: {_RENAME}"
        )
    backend.add_tokens([AddedToken(token, **_FLAGS)])
    index: int = backend.token_to_id(token)
    return index


def _check_found(
    embeddings: Sequence[Embedding], ids: Mapping[str, int], tokenizer: ClipTokenizer
) -> None:
    """CheckpointError for a token that the tokenizer does not find, or takes for another one."""
    for embedding in embeddings:
        for token in embedding.tokens:
            found = tokenizer.backend.encode(token, add_special_tokens=False).ids
            if found != [ids[token]]:
                raise CheckpointError(
                    f"{embedding.path}: the tokenizer does not find {quoted(token)} in a prompt, "
                    f"or takes it for another token: {_RENAME}"
                )


def _check_vectors(expected: Mapping[int, tuple[int, ...]], tokenizer: ClipTokenizer) -> None:
    """CheckpointError if a name makes a token a vector of another embedding."""
    found = ids_of_vectors(tokenizer.backend)
    for index, vectors in found.items():
        if vectors != expected.get(index):
            name, last = (tokenizer.backend.id_to_token(i) for i in (index, vectors[-1]))
            raise CheckpointError(
                f"the embedding {quoted(last)} would be read as another vector of {quoted(name)}: "
                f"{_RENAME}"
            )


def _write_json(path: Path, values: Mapping[str, Any]) -> None:
    path.unlink(missing_ok=True)  # it may be read-only
    path.write_text(json.dumps(values, indent=2), encoding="utf-8")
