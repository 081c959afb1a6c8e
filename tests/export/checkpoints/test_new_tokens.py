"""The names of embeddings: which a tokenizer takes, and what it then finds in prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt.adapters.embeddings import Embedding
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_export.checkpoints.embeddings import tokens_of_encoders
from sdrt_export.checkpoints.new_tokens import NewTokens, new_tokens, write_tokens
from sdrt_export.errors import CheckpointError
from support.clip_folder import BOS, EOS, SD1_CONFIG, clip_vocabulary, write_clip_folder

pytestmark = pytest.mark.export

VOCAB, _ = clip_vocabulary()
SIZE = len(VOCAB)
PIECE = next(token for token in VOCAB if token.isascii() and token.isalpha() and len(token) > 1)
DECODER = {
    str(VOCAB[token]): {"content": token, "special": True, "normalized": False}
    for token in (BOS, EOS)
}


def embedding(token: str, num_vectors: int = 1, *widths: int) -> Embedding:
    random = np.random.default_rng(num_vectors)
    vectors = (random.standard_normal((num_vectors, width), np.float32) for width in widths or (8,))
    return Embedding(token, Path(f"{token[:20]}.safetensors"), tuple(vectors), "0" * 64)


def added_to(folder: Path, *embeddings: Embedding) -> NewTokens:
    return new_tokens(folder, embeddings, [each.vectors[0] for each in embeddings])


def written(folder: Path, *embeddings: Embedding) -> ClipTokenizer:
    write_tokens(folder, added_to(folder, *embeddings))
    return ClipTokenizer.open(folder)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_clip_folder(tmp_path / "tokenizer")


def refusal(folder: Path, *embeddings: Embedding) -> str:
    with pytest.raises(CheckpointError) as caught:
        added_to(folder, *embeddings)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("config", [{}, {"added_tokens_decoder": DECODER}], ids=["old", "new"])
def test_tokens_follow_the_vocabulary(config: dict[str, Any], tmp_path: Path) -> None:
    folder = write_clip_folder(tmp_path, {**SD1_CONFIG, **config})
    tokens = added_to(folder, embedding("BadHands", 3), embedding("<dog>"))
    names = ["BadHands", "BadHands_1", "BadHands_2", "<dog>"]
    assert tokens.ids == {name: SIZE + number for number, name in enumerate(names)}
    assert tokens.num_rows(SIZE) == SIZE + 4
    assert tokens.num_rows(SIZE + 64) == SIZE + 64
    np.testing.assert_array_equal(tokens.rows[SIZE + 2], embedding("", 3).vectors[0][2])

    before = ClipTokenizer.open(folder).encode("a red circle").ids
    write_tokens(folder, tokens)
    tokenizer = ClipTokenizer.open(folder)
    assert tokenizer.vectors == {SIZE: (SIZE, SIZE + 1, SIZE + 2)}
    assert list(tokenizer.encode("badhands, <dog>").ids[1:4]) == [SIZE, SIZE + 1, SIZE + 2]
    np.testing.assert_array_equal(tokenizer.encode("a red circle").ids, before)

    more = written(folder, embedding("late", 2))
    assert more.vectors == {**tokenizer.vectors, SIZE + 4: (SIZE + 4, SIZE + 5)}
    added = json.loads((folder / "added_tokens.json").read_text())
    assert added == {name: SIZE + i for i, name in enumerate([*names, "late", "late_1"])}


@pytest.mark.parametrize(
    "name",
    ["my bad v1.5", "a:b", "-neg-", "Größe", "你好", "x" * 100, "emb=1", "a  b", "(bad:1.2)"],
)
def test_names_that_a_prompt_may_contain(name: str, folder: Path) -> None:
    tokenizer = written(folder, embedding(name))
    ids = tokenizer.encode(f"a red {name}, circle").ids.tolist()
    assert ids.count(SIZE) == 1
    assert ids[ids.index(SIZE) - 1] == VOCAB["red</w>"]


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("", "got the name '', expected 1 to 100 letters without spaces at its ends"),
        ("   ", "got the name ' ', expected 1 to 100 letters"),
        (" bad", "got the name ' bad', expected 1 to 100 letters"),
        ("x" * 101, "expected 1 to 100 letters without spaces at its ends"),
        (PIECE, f"'{PIECE}' is a token of the tokenizer already: choose another name: --embed"),
        (EOS, f"'{EOS}' is a token of the tokenizer already"),
        ("<|EndOfText|>", "the tokenizer does not find '<|EndOfText|>' in a prompt, or takes it"),
        ("\ud800", "cannot be encoded as UTF-8"),
    ],
)
def test_names_that_no_prompt_could_contain(name: str, reason: str, folder: Path) -> None:
    message = refusal(folder, embedding(name))
    assert reason in message
    assert "choose another name: --embedding NAME=PATH" in message


def test_a_name_may_not_be_taken(folder: Path) -> None:
    assert "'dog' is a token of the tokenizer already" in refusal(
        folder, embedding("dog"), embedding("dog")
    )
    assert "does not find 'DOG' in a prompt, or takes it" in refusal(
        folder, embedding("dog"), embedding("DOG")
    )
    assert "'dog_1' is a token of the tokenizer already" in refusal(
        folder, embedding("dog", 2), embedding("dog_1")
    )
    expected = "the embedding 'dog_1' would be read as another vector of 'dog'"
    assert expected in refusal(folder, embedding("dog"), embedding("dog_1"))
    assert expected in refusal(folder, embedding("dog_1"), embedding("dog"))
    written(folder, embedding("dog", 2))
    assert "'dog_2' would be read as another" in refusal(folder, embedding("dog_2"))


def test_a_prompt_must_hold_all_vectors(folder: Path) -> None:
    assert "has 76 vectors, a prompt holds 75" in refusal(folder, embedding("dog", 76))
    added_to(folder, embedding("dog", 75))


@pytest.mark.parametrize(
    ("given", "encoders", "got", "expected"),
    [
        ((8,), {"text_encoder": 12}, "8", "12"),
        ((8, 12), {"text_encoder": 8}, "8 and 12", "8"),
        ((8,), {"text_encoder": 8, "text_encoder_2": 12}, "8", "8 and 12"),
        ((12, 8), {"text_encoder": 8, "text_encoder_2": 12}, "12 and 8", "8 and 12"),
        ((8, 12), {"text_encoder_2": 8}, "8 and 12", "8"),
    ],
)
def test_another_width_is_refused_with_both(
    given: tuple[int, ...], encoders: dict[str, int], got: str, expected: str, folder: Path
) -> None:
    places = {name: (folder, width) for name, width in encoders.items()}
    with pytest.raises(CheckpointError) as caught:
        tokens_of_encoders([embedding("dog", 2, *given)], places)
    assert str(caught.value) == (
        f"'dog.safetensors' has vectors of width {got}, expected {expected}, that of the text "
        "encoders: it was made for another family"
    )


def test_a_refiner_takes_the_second_half_of_sdxl_s(folder: Path) -> None:
    given = embedding("dog", 2, 8, 12)
    tokens = tokens_of_encoders([given], {"text_encoder_2": (folder, 12)})["text_encoder_2"]
    np.testing.assert_array_equal(tokens.rows[SIZE], given.vectors[1][0])
