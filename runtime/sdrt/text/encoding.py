"""Prompts to the states that a denoiser reads: tokenized, encoded, joined as the family
requires."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np

from sdrt import tensor_names as names
from sdrt.ask import Ask, Asks, Link
from sdrt.errors import BundleError, RequestError, quoted
from sdrt.families.family import Encoder, TextRecipe
from sdrt.notes import Note
from sdrt.text.clip_tokenizer import ClipTokenizer, Tokens
from sdrt_engines import Array, Signature

TokenizerOf: TypeAlias = Callable[[str], ClipTokenizer]  # by the tokenizer's folder


@dataclass(frozen=True, eq=False)
class Prompts:
    """The texts of a job, one per row, and the number of an encoder's last layers to skip for the
    prompts; negative prompts always use all layers, as in diffusers.
    """

    positive: tuple[str, ...]  # B
    negative: tuple[str, ...] = ()  # B, or none if guidance needs none
    clip_skip: int = 0

    @property
    def num_rows(self) -> int:
        return len(self.negative) + len(self.positive)


@dataclass(frozen=True, eq=False)
class TextStates:
    """The states of one encoder or of all, one row per text, negative prompts first."""

    context: Array  # (R, L, D)
    pooled: Array | None  # (R, D)
    notes: tuple[Note, ...] = ()  # on prompts that were cut off


def encode_prompts(
    prompts: Prompts,
    recipe: TextRecipe,
    signatures: Mapping[str, Signature],
    tokenizer_of: TokenizerOf,
) -> Asks[TextStates]:
    """The text states of all rows. Each encoder runs once, on the distinct texts.

    Source: `encode_prompt` of diffusers' pipelines.
    """
    encoded: list[TextStates] = []
    for encoder in recipe.encoders:
        if encoder.component in signatures:
            signature, tokenizer = signatures[encoder.component], tokenizer_of(encoder.tokenizer)
            encoded.append((yield from _encode(prompts, encoder, signature, tokenizer)))
        else:
            encoded.append(_absent(prompts, encoder, recipe))
    states = _joined(encoded, recipe)
    return states if recipe.missing_negative == "encode" else _without_empty(states, prompts)


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
        notes=tuple(dict.fromkeys(note for states in encoded for note in states.notes)),
    )


def _encode(
    prompts: Prompts, encoder: Encoder, signature: Signature, tokenizer: ClipTokenizer
) -> Asks[TextStates]:
    """The states of one encoder; equal texts are encoded once."""
    plain, skipped = (_state_name(encoder, signature, skip) for skip in (0, prompts.clip_skip))
    wanted = [(plain, text) for text in prompts.negative]
    wanted += [(skipped, text) for text in prompts.positive]
    outputs = [*(output for output, _ in wanted), *filter(None, [encoder.pooled])]
    texts = list(dict.fromkeys(text for _, text in wanted))
    dtype = signature.input(names.INPUT_IDS).dtype
    tokens = [tokenizer.encode(text) for text in texts]
    ids = np.stack([row.ids for row in tokens]).astype(dtype)  # (U, L)
    link = Link(encoder.component, tuple(range(len(texts))), {names.INPUT_IDS: ids})
    answer = yield Ask((link,), tuple(dict.fromkeys(outputs)))
    places = [texts.index(text) for _, text in wanted]  # R
    states = zip(wanted, places, strict=True)
    return TextStates(
        context=np.stack([answer.outputs[output][place] for (output, _), place in states]),
        pooled=None if encoder.pooled is None else answer.outputs[encoder.pooled][places],
        notes=tuple(
            _truncated(text, row, prompts)
            for text, row in zip(texts, tokens, strict=True)
            if row.dropped
        ),
    )


def _truncated(text: str, tokens: Tokens, prompts: Prompts) -> Note:
    field = "prompt" if text in prompts.positive else "negative_prompt"
    return Note(
        "prompt_truncated",
        field,
        f"{field}: longer than the {len(tokens.ids)} tokens that the text encoder reads: this part "
        f"has no influence on the image: {quoted(tokens.dropped)}",
    )


def _state_name(encoder: Encoder, signature: Signature, clip_skip: int) -> str:
    """The output that holds an encoder's states without its `clip_skip` last layers."""
    if encoder.layer is None and not clip_skip:
        return names.LAST_HIDDEN_STATE
    name_of = names.normed_hidden_state if encoder.normed else names.hidden_state
    available = {spec.name for spec in signature.outputs}
    num_layers = sum(name_of(i) in available for i in range(len(available))) - 1
    if num_layers < 0:
        raise RequestError(
            "clip_skip: this bundle's text encoder has no hidden states among its outputs (optimum "
            "does not export them): leave clip_skip out, or export with 'sdrt export'"
        )
    layer = num_layers - clip_skip + (0 if encoder.layer is None else encoder.layer + 1)
    if layer < 0:
        raise RequestError(
            f"clip_skip: got {clip_skip}, but this text encoder has only {num_layers} layers: "
            f"give at most {num_layers}"
        )
    return name_of(layer)


def _absent(prompts: Prompts, encoder: Encoder, recipe: TextRecipe) -> TextStates:
    """Zeros in place of an encoder that the family does not require."""
    shape = (prompts.num_rows, encoder.max_tokens, recipe.width or 0)
    return TextStates(np.zeros(shape, np.float32), None)


def _padded(states: Array, width: int | None) -> Array:
    """States (R, L, D) with zeros behind each vector, up to `width`."""
    missing = 0 if width is None else width - states.shape[-1]
    if missing < 0:
        raise BundleError(
            f"the text encoders give vectors of size {states.shape[-1]}, expected {width} at most: "
            "export the checkpoint again"
        )
    return np.pad(states, ((0, 0), (0, 0), (0, missing))) if missing else states


def _without_empty(states: TextStates, prompts: Prompts) -> TextStates:
    """The states with zeros in the rows of empty negative prompts."""
    kept = np.array([text != "" for text in prompts.negative] + [True] * len(prompts.positive))
    rows = kept.astype(np.float32)
    pooled = states.pooled
    return replace(
        states,
        context=states.context * rows[:, None, None],
        pooled=None if pooled is None else pooled * rows[:, None],
    )
