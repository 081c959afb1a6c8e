"""Prompts of several chunks, weights and steps, against A1111's formulas written out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from sdrt.ask import Answer, Ask, answered
from sdrt.errors import RequestError
from sdrt.families.family import Encoder, TextRecipe
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt.text.encoding import EncodedPrompts, TextStates, encode_prompts
from sdrt.text.prompts import Prompts, read_prompts
from sdrt.text.text_cache import TextCache
from sdrt.text.versions import MAX_CHUNKS, MAX_ENCODED, ReadPrompts
from sdrt_engines import Array, Signature
from support.clip_folder import clip_vocabulary, write_clip_folder
from support.onnx_writer import spec

VOCAB, _ = clip_vocabulary()
BOS, EOS = VOCAB["<|startoftext|>"], VOCAB["<|endoftext|>"]
RED, BLUE = VOCAB["red</w>"], VOCAB["blue</w>"]
TABLE = np.random.default_rng(0).normal(-0.1, 1, (len(VOCAB), 5)).astype(np.float32)
LONG, SHORT = "red " * 80, "a blue star"

IDS = (spec("input_ids", "int64", "B", 77),)
STATE = spec("last_hidden_state", "float32", "B", 77, 3)
SIGNATURES = {
    "one": Signature(IDS, (STATE,)),
    "two": Signature(
        IDS,
        (
            spec("last_hidden_state", "float32", "B", 77, 2),
            spec("text_embeds", "float32", "B", 4),
        ),
    ),
}
ONE = TextRecipe((Encoder("one", "tokenizer"),))
TWO = TextRecipe(
    (Encoder("one", "tokenizer"), Encoder("two", "tokenizer", pooled="text_embeds")),
    context=((0, 1),),
    pooled=(1,),
    missing_negative="zeros",
)


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> ClipTokenizer:
    return ClipTokenizer.open(write_clip_folder(tmp_path_factory.mktemp("clip") / "tokenizer"))


def states_of(ids: Array, component: str) -> Array:
    """States that depend on a token and its place, (…, 77, D)."""
    columns = slice(0, 3) if component == "one" else slice(3, 5)
    place = np.linspace(0.5, 1, 77, dtype=np.float32)[:, None]
    return np.asarray(TABLE[ids][..., columns] * place)


def pooled_of(ids: Array) -> Array:
    return np.asarray(states_of(ids, "two").sum(axis=-2).repeat(2, axis=-1))


class Encoders:
    """Answers asks; keeps the ids of each."""

    def __init__(self) -> None:
        self.ids: list[Array] = []

    def __call__(self, ask: Ask) -> Answer:
        (link,) = ask.chain
        ids = link.changing["input_ids"]
        self.ids.append(ids)
        outputs = {
            "last_hidden_state": states_of(ids, link.component),
            "text_embeds": pooled_of(ids),
        }
        return Answer({name: outputs[name] for name in ask.outputs})


def prompts_of(positive: str | Sequence[str], *negative: str | None, **fields: Any) -> Prompts:
    texts = (positive,) if isinstance(positive, str) else tuple(positive)
    options: dict[str, Any] = {"syntax": "a1111", "num_steps": 10}
    return Prompts(texts, negative, **options | fields)


def read(tokenizer: ClipTokenizer, *prompts: Prompts) -> ReadPrompts:
    recipe = ONE if len(prompts) == 1 else TWO
    return read_prompts(prompts, recipe, SIGNATURES, lambda folder: tokenizer)


def encoded(
    tokenizer: ClipTokenizer, *prompts: Prompts, run: Encoders | None = None
) -> EncodedPrompts:
    found = read(tokenizer, *prompts)
    return answered(encode_prompts(found, TextCache(0)), run or Encoders())


def at(encoded: EncodedPrompts, call: int = 0, image: int = 0) -> TextStates:
    """The states of an image at a call, the negative prompt's first."""
    return encoded.states_of(encoded.versions_at(call), [image])


def row(*ids: int) -> Array:
    """A chunk as a text encoder takes it."""
    return np.array([BOS, *ids, *[EOS] * (76 - len(ids))])


def weighted(states: Array, weights: Sequence[float]) -> Array:
    """A1111's emphasis "Original": times the weight of each token, then the old mean again."""
    z = states * np.array([1, *weights, *[1] * (76 - len(weights))])[:, None]
    return np.asarray(z * (states.mean() / z.mean()))


def test_weights_scale_states_and_keep_their_mean(tokenizer: ClipTokenizer) -> None:
    context = at(encoded(tokenizer, prompts_of("red (blue:1.5) [red]"))).context
    plain = states_of(row(RED, BLUE, RED), "one")
    expected = weighted(plain, [1, 1.5, 1 / 1.1])
    np.testing.assert_allclose(context[0], expected, rtol=0, atol=1e-6)
    assert context.mean() == pytest.approx(plain.mean(), abs=1e-6)
    assert abs(context[0] - plain).max() > 0.1


@pytest.mark.parametrize("weight", ["0", "-1", "-0.5", "1000", "-1000"])
def test_any_allowed_weight_gives_finite_states(tokenizer: ClipTokenizer, weight: str) -> None:
    context = at(encoded(tokenizer, prompts_of(f"red (blue:{weight})"))).context
    assert np.isfinite(context).all()
    expected = weighted(states_of(row(RED, BLUE), "one"), [1, float(weight)])
    np.testing.assert_allclose(context[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("text", ["", "  ", SHORT, "(a:1.0) blue [star:star:3]", "red " * 75])
def test_weight_1_is_the_plain_prompt_bit_for_bit(tokenizer: ClipTokenizer, text: str) -> None:
    words = text.replace("(a:1.0) blue [star:star:3]", SHORT)
    plain = at(encoded(tokenizer, *[prompts_of(words, "", syntax="plain")] * 2))
    for call in (0, 9):
        got = at(encoded(tokenizer, *[prompts_of(text, "")] * 2), call)
        np.testing.assert_array_equal(got.context, plain.context)
        assert got.pooled is not None and plain.pooled is not None
        np.testing.assert_array_equal(got.pooled, plain.pooled)


def test_chunks_are_rows_of_the_encoder_joined_along_the_length(tokenizer: ClipTokenizer) -> None:
    context = at(encoded(tokenizer, prompts_of("red " * 75 + "(blue:2)"))).context
    assert context.shape == (1, 154, 3)
    first, second = states_of(row(*[RED] * 75), "one"), states_of(row(BLUE), "one")
    np.testing.assert_array_equal(context[0, :77], first)  # its weights are all 1
    np.testing.assert_allclose(context[0, 77:], weighted(second, [2]), rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("positive", "negative", "chunks"), [(LONG, "", 2), (SHORT, LONG * 2, 3), (LONG, LONG * 2, 6)]
)
def test_a_shorter_row_is_repeated(
    tokenizer: ClipTokenizer, positive: str, negative: str, chunks: int
) -> None:
    """Attention to a context that stands twice is attention to that context: what A1111 computes
    with contexts of two lengths."""
    context = at(encoded(tokenizer, prompts_of(positive, negative))).context
    assert context.shape == (2, 77 * chunks, 3)
    for got, text in zip(context, (negative, positive), strict=True):
        alone = at(encoded(tokenizer, prompts_of(text))).context[0]
        np.testing.assert_array_equal(got, np.tile(alone, (len(got) // len(alone), 1)))
        query = np.random.default_rng(1).normal(size=(9, 3))
        np.testing.assert_allclose(attention(query, got), attention(query, alone), atol=1e-12)


def attention(query: Array, context: Array) -> Array:
    scores = np.exp(query @ context.T.astype(float))
    return np.asarray(scores / scores.sum(1, keepdims=True) @ context)


def test_both_encoders_read_the_weights_and_the_first_chunk_is_pooled(
    tokenizer: ClipTokenizer,
) -> None:
    text = "(red:1.3) " * 75 + "blue"
    states = at(encoded(tokenizer, *[prompts_of(text, None)] * 2))
    assert states.context.shape == (2, 154, 5) and states.pooled is not None
    for component, columns in {"one": slice(0, 3), "two": slice(3, 5)}.items():
        expected = weighted(states_of(row(*[RED] * 75), component), [1.3] * 75)
        np.testing.assert_allclose(states.context[1, :77, columns], expected, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(states.pooled[1], pooled_of(row(*[RED] * 75)))  # unweighted
    assert not states.context[0].any() and not states.pooled[0].any()  # no negative prompt


def test_a_second_text_of_another_length_is_filled_up(tokenizer: ClipTokenizer) -> None:
    states = at(encoded(tokenizer, prompts_of(LONG), prompts_of("blue")))
    empty = states_of(row(), "two")
    np.testing.assert_array_equal(states.context[0, 77:, 3:], empty)
    np.testing.assert_array_equal(states.context[0, :77, 3:], states_of(row(BLUE), "two"))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        # The first call reads step 0, so A1111's first version has a call more.
        ("[red:blue:3]", [RED] * 4 + [BLUE] * 6),
        ("[red:blue:0.5]", [RED] * 6 + [BLUE] * 4),
        ("[red|blue]", [RED, *[RED, BLUE] * 4, RED]),
        ("[blue:red:0]", [RED] * 10),
    ],
)
def test_the_words_of_each_call(tokenizer: ClipTokenizer, text: str, words: list[int]) -> None:
    found = encoded(tokenizer, prompts_of(text, "red"))
    for call, word in enumerate(words):
        states = at(found, call).context
        np.testing.assert_array_equal(states[0], states_of(row(RED), "one"))
        np.testing.assert_array_equal(states[1], states_of(row(word), "one"))


def test_more_calls_than_steps_keep_the_last_words(tokenizer: ClipTokenizer) -> None:
    found = encoded(tokenizer, prompts_of("[red:blue:3]"))
    assert found.versions_at(10) == found.versions_at(99) == found.versions_at(9)


def test_versions_share_a_length_and_a_mean(tokenizer: ClipTokenizer) -> None:
    """A1111 encodes all versions of a prompt together: the mean that is restored is theirs."""
    found = encoded(tokenizer, prompts_of("[(red:1.5):" + "blue " * 76 + ":5]"))
    first, second = at(found, 0).context[0], at(found, 9).context[0]
    assert len(first) == len(second) == 154
    red, blue = states_of(row(RED), "one"), states_of(row(*[BLUE] * 75), "one")
    z = np.stack([red * np.array([1, 1.5, *[1] * 75])[:, None], blue])
    z *= np.stack([red, blue]).mean() / z.mean()
    np.testing.assert_allclose(np.stack([first, second])[:, :77], z, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(first[77:], states_of(row(), "one"))  # an empty chunk


def test_each_chunk_is_encoded_once_in_runs_of_the_jobs_rows(tokenizer: ClipTokenizer) -> None:
    run = Encoders()
    encoded(
        tokenizer,
        prompts_of(
            ["red BREAK blue BREAK a", "red BREAK blue"],
            "",
            "",
        ),
        run=run,
    )
    assert [len(ids) for ids in run.ids] == [4]
    run = Encoders()
    encoded(tokenizer, prompts_of("[red|blue] BREAK a BREAK star", "red"), run=run)
    assert [len(ids) for ids in run.ids] == [2, 2]
    together = np.concatenate(run.ids)
    assert len(np.unique(together, axis=0)) == 4


def test_what_is_in_the_cache_is_not_encoded(tokenizer: ClipTokenizer) -> None:
    cache, run = TextCache(), Encoders()

    def context_of(*texts: str) -> Array:
        found = read(tokenizer, *[prompts_of(*texts)] * 2)
        return at(answered(encode_prompts(found, cache), run)).context

    first = context_of("a (red:1.4) star", "blue")
    assert [len(ids) for ids in run.ids] == [2, 2]
    np.testing.assert_array_equal(context_of("a (red:1.4) star", "blue"), first)
    assert len(run.ids) == 2
    other = context_of("a (red:0.4) star", "blue")  # other weights of the same tokens
    assert len(run.ids) == 2 and (other != first).any()
    context_of("a red star", "green")
    assert [len(ids) for ids in run.ids[2:]] == [1, 1]


@pytest.mark.parametrize(
    ("positive", "negative", "message"),
    [
        ("BREAK " * 64 + "a", "", "prompt: it takes 65 chunks of 75 tokens, expected 64 at most"),
        ("", "a BREAK " * 70, "negative_prompt: it takes 70 chunks of 75 tokens"),
        (
            "a BREAK " * 9,
            "a BREAK " * 8,
            "prompt, negative_prompt: they take 8 and 9 chunks, so that together each would ",
        ),
        ("(a:2000)", "", "prompt: the brackets give a weight of 2000"),
        ("[a:(b:2000):0.9]", "", "prompt: the brackets give a weight of 2000"),
        ("", "(a:1..2)", r"negative_prompt: got the weight '1\.\.2'"),
    ],
)
def test_prompts_that_cannot_be_encoded_are_refused(
    tokenizer: ClipTokenizer, positive: str, negative: str, message: str
) -> None:
    with pytest.raises(RequestError, match=message):
        read(tokenizer, prompts_of(positive, negative))


def test_the_longest_prompts_that_are_allowed(tokenizer: ClipTokenizer) -> None:
    found = encoded(tokenizer, prompts_of("a BREAK " * (MAX_CHUNKS - 1) + "b", ""))
    assert at(found).context.shape == (2, 77 * MAX_CHUNKS, 3)


def test_too_many_different_chunks_are_refused(tokenizer: ClipTokenizer) -> None:
    texts = ["[" + "|".join(f"{i} {j}" for j in range(100)) + "]" for i in range(25)]
    with pytest.raises(
        RequestError, match="prompt: the prompts and their edits take 2370 different"
    ):
        read(tokenizer, prompts_of(texts, num_steps=100))
    assert len(texts) * 100 > MAX_ENCODED


def test_a_denoiser_of_one_length_takes_one_chunk(tokenizer: ClipTokenizer) -> None:
    fixed = Signature((spec("encoder_hidden_states", "float32", "B", 77, 3),), ())
    read(tokenizer, prompts_of(SHORT, "")).require_fitting(fixed)
    message = "prompt: the prompts take 2 chunks, but this bundle's denoiser was exported for 77"
    with pytest.raises(RequestError, match=message):
        read(tokenizer, prompts_of("a", LONG)).require_fitting(fixed)
