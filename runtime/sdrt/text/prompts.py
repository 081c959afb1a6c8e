"""Prompts read for their encoders, before any network runs: parsed, tokenized, aligned."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from sdrt import tensor_names as names
from sdrt.errors import RequestError, quoted
from sdrt.families.family import Encoder, TextRecipe
from sdrt.notes import Note
from sdrt.parameters import PromptSyntax
from sdrt.text.a1111 import without_tags
from sdrt.text.chunks import Chunk, chunks_from_segments, empty_chunk
from sdrt.text.clip_tokenizer import ClipTokenizer, Tokens
from sdrt.text.editing import edited_texts
from sdrt.text.emphasis import segments_from_text
from sdrt.text.versions import (
    MAX_CHUNKS,
    EncoderPrompts,
    ReadPrompts,
    Row,
    Version,
    align,
    require_few,
)
from sdrt_engines import Signature

TokenizerOf: TypeAlias = Callable[[str], ClipTokenizer]  # by the tokenizer's folder


@dataclass(frozen=True, eq=False)
class Prompts:
    """The texts of a job for one encoder, one per row, and the number of its last layers to skip.

    `num_steps` are those that edited prompts count, of the whole schedule.
    """

    positive: tuple[str, ...]  # B
    negative: tuple[str | None, ...] = ()  # B, or none if guidance needs none; None means zeros
    clip_skip: int = 0
    negative_clip_skip: int = 0  # in diffusers negative prompts always use all layers
    fields: tuple[str, str] = ("prompt", "negative_prompt")  # of the request, for messages
    syntax: PromptSyntax = "plain"
    num_steps: int = 1

    @property
    def num_rows(self) -> int:
        return len(self.negative) + len(self.positive)


def read_prompts(
    prompts: Sequence[Prompts],
    recipe: TextRecipe,
    signatures: Mapping[str, Signature],
    tokenizer_of: TokenizerOf,
) -> ReadPrompts:
    """The prompts as each encoder reads them; `prompts` are those of each encoder.

    RequestError for what cannot be encoded, with the field.
    """
    notes: dict[Note, None] = {}
    read: list[EncoderPrompts | None] = []
    for texts, encoder in zip(prompts, recipe.encoders, strict=True):
        if encoder.component in signatures:
            reader = _Reader(texts, tokenizer_of(encoder.tokenizer), notes)
            read.append(reader.read(encoder, signatures[encoder.component]))
        else:
            read.append(None)
    num_images, num_rows = len(prompts[0].positive), prompts[0].num_rows
    for group in recipe.context:
        align(group, read, num_images)
    require_few(read)
    return ReadPrompts(recipe, num_images, num_rows, tuple(read), tuple(notes))


class _Reader:
    """Reads the texts of one encoder, each text once."""

    def __init__(self, prompts: Prompts, tokenizer: ClipTokenizer, notes: dict[Note, None]) -> None:
        self._prompts, self._tokenizer, self._notes = prompts, tokenizer, notes
        self._rows: dict[str, Row] = {}
        self._chunks: dict[str, tuple[Chunk, ...]] = {}  # by the text of a version

    def read(self, encoder: Encoder, signature: Signature) -> EncoderPrompts:
        prompts = self._prompts
        of_negative = _state_name(encoder, signature, prompts.negative_clip_skip)
        of_positive = _state_name(encoder, signature, prompts.clip_skip)
        positive, negative = prompts.fields
        return EncoderPrompts(
            encoder,
            signature,
            rows=(
                *(self._row(text, negative) for text in prompts.negative),
                *(self._row(text, positive) for text in prompts.positive),
            ),
            outputs=(of_negative,) * len(prompts.negative) + (of_positive,) * len(prompts.positive),
            empty=empty_chunk(self._tokenizer),
        )

    def _row(self, text: str | None, field: str) -> Row:
        if text is None:
            return (Version(0, (None,)),)
        if text not in self._rows:
            read = self._plain if self._prompts.syntax == "plain" else self._a1111
            self._rows[text] = tuple(read(text, field))
        return self._rows[text]

    def _plain(self, text: str, field: str) -> Iterator[Version]:
        tokens = self._tokenizer.encode(text)
        if tokens.dropped:
            in_prompt = text in self._prompts.positive
            self._notes[_truncated(tokens, self._prompts.fields[0] if in_prompt else field)] = None
        yield Version(0, (Chunk(tuple(tokens.ids.tolist())),))

    def _a1111(self, text: str, field: str) -> Iterator[Version]:
        for edited in edited_texts(without_tags(text), self._prompts.num_steps):
            if edited.text not in self._chunks:
                self._chunks[edited.text] = self._chunked(edited.text, field)
            yield Version(edited.until, self._chunks[edited.text])

    def _chunked(self, text: str, field: str) -> tuple[Chunk, ...]:
        chunks = chunks_from_segments(segments_from_text(text, field), self._tokenizer)
        if len(chunks) > MAX_CHUNKS:
            raise RequestError(
                f"{field}: it takes {len(chunks)} chunks of {self._tokenizer.capacity} tokens, "
                f"expected {MAX_CHUNKS} at most: shorten it"
            )
        return chunks


def _truncated(tokens: Tokens, field: str) -> Note:
    return Note(
        "prompt_truncated",
        field,
        f"{field}: longer than the {len(tokens.ids)} tokens that the text encoder reads: this part "
        f"has no influence on the image: {quoted(tokens.dropped)} "
        "(prompt_syntax 'a1111' reads all of it)",
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
