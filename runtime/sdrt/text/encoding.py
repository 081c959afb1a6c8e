"""Prompts to the states that a denoiser reads: encoded, weighted, joined as the family requires."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

import numpy as np

from sdrt import tensor_names as names
from sdrt.ask import Ask, Asks, Link
from sdrt.errors import BundleError
from sdrt.families.family import Encoder, TextRecipe
from sdrt.text.chunks import Chunk
from sdrt.text.text_cache import TextCache
from sdrt.text.versions import EncoderPrompts, ReadPrompts
from sdrt_engines import Array

Indices: TypeAlias = tuple[tuple[int, ...], ...]  # of versions, for each encoder and row


@dataclass(frozen=True, eq=False)
class TextStates:
    """The states of one encoder or of all, one row per text, negative prompts first."""

    context: Array  # (R, L, D)
    pooled: Array | None  # (R, D)


@dataclass(frozen=True, eq=False)
class EncodedPrompts:
    """The prompts of a job with the states of all their versions."""

    prompts: ReadPrompts
    encoders: tuple[_EncodedRows | None, ...]

    def versions_at(self, call: int) -> Indices:
        """The versions of all prompts at a call of the denoiser, counted from 0."""
        return self.prompts.versions_at(call)

    def states_of(self, versions: Indices, images: Sequence[int]) -> TextStates:
        """The states that the denoiser reads for some images, whose prompts have one length.

        Source: `encode_prompt` of diffusers' pipelines.
        """
        recipe, rows = self.prompts.recipe, self.prompts.rows_of(images)
        encoded = [
            _absent(encoder, recipe, len(rows)) if found is None else found.states_of(indices, rows)
            for encoder, found, indices in zip(
                recipe.encoders, self.encoders, versions, strict=True
            )
        ]
        return _joined(encoded, recipe)


def encode_prompts(prompts: ReadPrompts, cache: TextCache) -> Asks[EncodedPrompts]:
    """Runs each encoder on the different chunks that are not in the cache."""
    encoded: list[_EncodedRows | None] = []
    for each in prompts.encoders:
        encoded.append(None if each is None else (yield from _encode(each, cache)))
    return EncodedPrompts(prompts, tuple(encoded))


class _Key(NamedTuple):
    """A row of an output: weights are not in it, as they come later."""

    component: str
    output: str
    ids: tuple[int, ...]


def _encode(prompts: EncoderPrompts, cache: TextCache) -> Asks[_EncodedRows]:
    keys = list(dict.fromkeys(_keys(prompts)))
    states = {key: row for key in keys if (row := cache.get(key)) is not None}
    missing = [key for key in keys if key not in states]
    outputs = tuple(dict.fromkeys(key.output for key in missing))
    rows = list(dict.fromkeys(key.ids for key in missing))
    size = len(prompts.rows)  # engines built for the images of a request run so many texts
    for start in range(0, len(rows), size):
        places = {ids: place for place, ids in enumerate(rows[start : start + size])}
        answer = yield Ask((_link(prompts, list(places)),), outputs)
        for key in missing:
            if key.ids in places:
                states[key] = answer.outputs[key.output][places[key.ids]]
                cache.put(key, states[key])
    return _EncodedRows(prompts, states)


def _keys(prompts: EncoderPrompts) -> Iterator[_Key]:
    """The rows of outputs that the prompts need."""
    component, pooled = prompts.encoder.component, prompts.encoder.pooled
    for row, output in zip(prompts.rows, prompts.outputs, strict=True):
        for version in row:
            for chunk in filter(None, version.chunks):
                yield _Key(component, output, chunk.ids)
            if pooled and (first := version.chunks[0]):
                yield _Key(component, pooled, first.ids)


def _link(prompts: EncoderPrompts, ids: Sequence[tuple[int, ...]]) -> Link:
    dtype = prompts.signature.input(names.INPUT_IDS).dtype
    changing = {names.INPUT_IDS: np.array(ids, dtype)}  # (U, L)
    return Link(prompts.encoder.component, tuple(range(len(ids))), changing)


@dataclass(frozen=True, eq=False)
class _EncodedRows:
    """The rows of one encoder with the states of their chunks."""

    prompts: EncoderPrompts
    states: Mapping[_Key, Array]  # of a chunk (L, D), of a pooled output (D,)
    factors: dict[tuple[int, int], float] = field(default_factory=dict)  # by row and chunk

    def states_of(self, versions: Sequence[int], rows: Sequence[int]) -> TextStates:
        contexts, pooled = [], []
        for number in rows:
            chunks = self.prompts.rows[number][versions[number]].chunks
            parts = [self._weighted(number, place, chunk) for place, chunk in enumerate(chunks)]
            contexts.append(np.concatenate(parts))
            if self.prompts.encoder.pooled is not None:
                # Of the first chunk and without weights, as in A1111.
                pooled.append(self._state(chunks[0], self.prompts.encoder.pooled))
        return TextStates(np.stack(contexts), np.stack(pooled) if pooled else None)

    def _weighted(self, number: int, place: int, chunk: Chunk | None) -> Array:
        """A chunk's states (L, D) times the weights of its tokens, with the mean that they had
        before, as A1111's emphasis "Original" restores it."""
        states = self._state(chunk, self.prompts.outputs[number])
        factor = self._factor(number, place)
        if chunk is not None and chunk.weights is not None:
            states = states * _column(chunk.weights)
        return states if factor == 1 else states * np.float32(factor)

    def _factor(self, number: int, place: int) -> float:
        """The factor that restores the mean, which is that of all versions together."""
        if (number, place) not in self.factors:
            chunks = Counter(version.chunks[place] for version in self.prompts.rows[number])
            self.factors[number, place] = self._restoring(chunks, self.prompts.outputs[number])
        return self.factors[number, place]

    def _restoring(self, chunks: Mapping[Chunk | None, int], output: str) -> float:
        if not any(chunk is not None and chunk.weights for chunk in chunks):
            return 1.0
        before = after = 0.0
        for chunk, count in chunks.items():
            states = self._state(chunk, output)
            mean = count * float(states.mean(dtype=np.float64))
            before += mean
            if chunk is not None and chunk.weights is not None:
                weighted = states * _column(chunk.weights)
                mean = count * float(weighted.mean(dtype=np.float64))
            after += mean
        return before / after if after else 1.0

    def _state(self, chunk: Chunk | None, output: str) -> Array:
        """The states of a chunk, zeros for None."""
        component, pooled = self.prompts.encoder.component, self.prompts.encoder.pooled
        if chunk is not None:
            return self.states[_Key(component, output, chunk.ids)]
        is_pooled = output == pooled
        alike = (row for key, row in self.states.items() if (key.output == pooled) is is_pooled)
        return np.zeros_like(next(alike))


def _column(weights: Sequence[float]) -> Array:
    return np.array(weights, np.float32)[:, None]  # (L, 1)


def _absent(encoder: Encoder, recipe: TextRecipe, num_rows: int) -> TextStates:
    """Zeros in place of an encoder that the family does not require."""
    shape = (num_rows, encoder.max_tokens, recipe.width or 0)
    return TextStates(np.zeros(shape, np.float32), None)


def _joined(encoded: Sequence[TextStates], recipe: TextRecipe) -> TextStates:
    parts = [
        _padded(np.concatenate([encoded[index].context for index in group], axis=-1), recipe.width)
        for group in recipe.context
    ]
    pooled = [encoded[index].pooled for index in recipe.pooled]
    vectors = [vector for vector in pooled if vector is not None]
    return TextStates(
        context=np.concatenate(parts, axis=1),
        pooled=np.concatenate(vectors, axis=-1) if vectors else None,
    )


def _padded(states: Array, width: int | None) -> Array:
    """States (R, L, D) with zeros behind each vector, up to `width`."""
    missing = 0 if width is None else width - states.shape[-1]
    if missing < 0:
        raise BundleError(
            f"the text encoders give vectors of size {states.shape[-1]}, expected {width} at most: "
            "export the checkpoint again"
        )
    return np.pad(states, ((0, 0), (0, 0), (0, missing))) if missing else states
