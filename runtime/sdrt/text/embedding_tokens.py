"""Tokens that stand for the vectors of an embedding (textual inversion)."""

from __future__ import annotations

from itertools import count, takewhile
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Ids: TypeAlias = tuple[int, ...]


def ids_of_vectors(backend: Tokenizer) -> dict[int, Ids]:
    """The ids of all vectors of each token that has several: the tokens `name`, `name_1`, `name_2`…

    Source: `maybe_convert_prompt` of diffusers' `TextualInversionLoaderMixin`, which takes tokens
    of these names for the vectors of one embedding.
    """
    added = {
        token.content: index
        for index, token in backend.get_added_tokens_decoder().items()
        if not token.special
    }
    vectors = {}
    for name, index in added.items():
        numbered = (f"{name}_{number}" for number in count(1))
        if others := tuple(added[each] for each in takewhile(added.__contains__, numbered)):
            vectors[index] = (index, *others)
    return vectors
