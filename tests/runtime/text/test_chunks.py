"""Prompts of any length in chunks of 75 tokens."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from sdrt.text.chunks import Chunk, chunks_from_segments, empty_chunk
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt.text.emphasis import segments_from_text
from support.clip_folder import BOS, EOS, SD1_CONFIG, clip_vocabulary, write_clip_folder

VOCAB, _ = clip_vocabulary()
RED, BLUE, COMMA = VOCAB["red</w>"], VOCAB["blue</w>"], VOCAB[",</w>"]


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ClipTokenizer:
    return ClipTokenizer.open(write_clip_folder(tmp_path_factory.mktemp("clip") / "tokenizer"))


def chunks_of(text: str, tokenizer: ClipTokenizer) -> tuple[Chunk, ...]:
    return chunks_from_segments(segments_from_text(text), tokenizer)


def sizes(chunks: tuple[Chunk, ...]) -> list[int]:
    """The tokens of each chunk, without bos, eos and padding."""
    return [len(set(enumerate(chunk.ids)) - _frame(chunk)) for chunk in chunks]


def _frame(chunk: Chunk) -> set[tuple[int, int]]:
    marks = {VOCAB[BOS], VOCAB[EOS]}
    return {(place, index) for place, index in enumerate(chunk.ids) if index in marks}


@pytest.mark.parametrize(
    "text", ["", "  ", "a red circle", "red " * 75, "we'll see: 1024 × 4k!", "cafe\u0301, 你好"]
)
def test_a_short_text_is_the_row_of_the_plain_prompt(tokenizer: ClipTokenizer, text: str) -> None:
    (chunk,) = chunks_of(text, tokenizer)
    assert chunk == Chunk(tuple(tokenizer.encode(text).ids.tolist()))


@pytest.mark.parametrize(
    "config",
    [
        {**SD1_CONFIG, "pad_token": "!"},
        {**SD1_CONFIG, "padding_side": "left", "truncation_side": "left"},
        {**SD1_CONFIG, "model_max_length": 20},
    ],
)
def test_other_tokenizers_have_other_rows(config: dict[str, object], tmp_path: Path) -> None:
    tokenizer = ClipTokenizer.open(write_clip_folder(tmp_path, config))
    (chunk,) = chunks_of("a red circle", tokenizer)
    np.testing.assert_array_equal(chunk.ids, tokenizer.encode("a red circle").ids)
    (weighted,) = chunks_of("a (red:2) circle", tokenizer)
    assert weighted.weights is not None and weighted.ids == chunk.ids
    assert (
        weighted.weights[chunk.ids.index(RED)] == 2 and sum(weighted.weights) == len(chunk.ids) + 1
    )
    long = "red blue " * 150
    np.testing.assert_array_equal(tokenizer.token_ids(long), [(RED,), (BLUE,)] * 150)
    assert sizes(chunks_of(long, tokenizer))[0] == tokenizer.capacity


def test_each_chunk_has_its_own_marks(tokenizer: ClipTokenizer) -> None:
    first, second = chunks_of("red " * 76, tokenizer)
    assert first.ids == (VOCAB[BOS], *[RED] * 75, VOCAB[EOS])
    assert second.ids == (VOCAB[BOS], RED, *[VOCAB[EOS]] * 75)
    assert empty_chunk(tokenizer).ids == (VOCAB[BOS], *[VOCAB[EOS]] * 76)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("red " * 75, [75]),
        ("red " * 76, [75, 1]),
        ("red " * 225, [75, 75, 75]),
        # a comma near the end takes what follows it along
        ("red " * 55 + ", " + "blue " * 20, [56, 20]),  # the comma is 20 tokens back
        ("red " * 54 + ", " + "blue " * 21, [75, 1]),
        ("red " * 74 + ", blue", [75, 1]),
        ("red " * 75 + ", blue", [75, 2]),  # the next chunk begins with the comma
        ("red, " * 60, [75, 45]),  # the next token is a comma itself
        ("red " * 55 + ", " + "blue " * 95, [56, 75, 20]),
        # breaks
        ("red BREAK blue", [1, 1]),
        ("BREAK blue", [0, 1]),
        ("red BREAK", [1]),
        ("red BREAK BREAK blue", [1, 0, 1]),
        ("red " * 75 + "BREAK blue", [75, 1]),
        ("red, BREAK " + "blue " * 76, [2, 75, 1]),
    ],
)
def test_the_lengths_of_chunks(tokenizer: ClipTokenizer, text: str, expected: list[int]) -> None:
    assert sizes(chunks_of(text, tokenizer)) == expected


def test_weights_belong_to_tokens(tokenizer: ClipTokenizer) -> None:
    first, second = chunks_of("red " * 74 + "(blue red:1.5) (blue:0)", tokenizer)
    assert first.weights == (*[1.0] * 75, 1.5, 1.0)
    assert second.weights == (1.0, 1.5, 0.0, *[1.0] * 74)
    assert chunks_of("red (blue:1.5) BREAK red", tokenizer)[1].weights is None


def test_words_that_touch_are_tokens_of_their_own(tokenizer: ClipTokenizer) -> None:
    """As in A1111, which tokenizes each segment."""
    (chunk,) = chunks_of("re(d:1.2)", tokenizer)
    assert chunk.ids != chunks_of("red", tokenizer)[0].ids


def test_a_vocabulary_may_have_no_comma(tmp_path: Path) -> None:
    folder = write_clip_folder(tmp_path)
    text = (folder / "vocab.json").read_text().replace('",</w>"', '",,</w>"')
    (folder / "vocab.json").write_text(text)
    assert ClipTokenizer.open(folder).comma is None


def test_the_vectors_of_an_embedding_stay_in_one_chunk(tmp_path: Path) -> None:
    folder = write_clip_folder(tmp_path)
    count, first = 80, len(VOCAB)
    names = ["pale", *(f"pale_{number}" for number in range(1, count)), "odd", "odd_1", "odd_2"]
    added = {name: first + number for number, name in enumerate(names)}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    tokenizer = ClipTokenizer.open(folder)
    odd = [first + count, first + count + 1, first + count + 2]
    assert sizes(chunks_of("red " * 73 + "odd blue", tokenizer)) == [73, 4]
    near, far = chunks_of("red " * 70 + ", red red odd blue", tokenizer)  # not moved to the comma
    assert list(far.ids[1:5]) == [*odd, BLUE]
    assert near.ids[73] == RED
    assert sizes(chunks_of("red pale blue", tokenizer)) == [1, 75, 6]  # more than a chunk holds
