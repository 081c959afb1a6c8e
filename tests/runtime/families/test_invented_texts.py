"""The texts of the invented family: encoders that differ, one that is absent, a pooled vector."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, Pipeline, Request
from sdrt.errors import BundleError
from sdrt.parameters import PARAMETER
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_engines import resolve_target
from support.function_networks import BLURRY, CIRCLE, STAR
from support.invented import (
    SHORT,
    WIDTH,
    Invented,
    meaning,
    words,
)


def test_the_context_is_joined_along_width_and_length(pipe: Pipeline, networks: Invented) -> None:
    pipe(CIRCLE, negative_prompt=STAR, **SHORT)
    context = networks.feeds["transformer"][0]["encoder_hidden_states"]
    assert context.shape == (2, 77 + 5, WIDTH)
    texts, others = words(networks.feeds["words"][0]), meaning(networks.feeds["meaning"][0])
    np.testing.assert_array_equal(context[:, :77, :3], texts["hidden_states.2"])  # penultimate
    np.testing.assert_array_equal(context[:, :77, 3:5], others["last_hidden_state"])
    assert not context[:, :77, 5:].any()  # padded up to the width
    assert not context[:, 77:].any()  # the third encoder is not there
    pooled = networks.feeds["transformer"][0]["text_embeds"]
    np.testing.assert_array_equal(pooled, others["text_embeds"])


def test_clip_skip_counts_from_the_layer_that_the_recipe_reads(
    pipe: Pipeline, networks: Invented
) -> None:
    pipe(CIRCLE, negative_prompt=CIRCLE, clip_skip=1, **SHORT)
    negative, positive = networks.feeds["transformer"][0]["encoder_hidden_states"][:, :77, :5]
    texts, others = words(networks.feeds["words"][0]), meaning(networks.feeds["meaning"][0])
    np.testing.assert_array_equal(negative[:, :3], texts["hidden_states.2"][0])
    np.testing.assert_array_equal(positive[:, :3], texts["hidden_states.1"][0])
    np.testing.assert_array_equal(negative[:, 3:], others["last_hidden_state"][0])
    np.testing.assert_array_equal(positive[:, 3:], others["normed_hidden_states.1"][0])


def test_a1111_skips_no_layers_of_an_encoder_with_a_layer_of_its_own(
    pipe: Pipeline, networks: Invented
) -> None:
    options: dict[str, Any] = {"clip_skip": 1, "prompt_syntax": "a1111", **SHORT}
    stream = pipe.stream(CIRCLE, negative_prompt=CIRCLE, **options)
    list(stream)
    assert [note.code for note in stream.result.notes] == ["clip_skip_ignored"]
    context = networks.feeds["transformer"][0]["encoder_hidden_states"][:, :77]
    texts, others = words(networks.feeds["words"][0]), meaning(networks.feeds["meaning"][0])
    for row in context:
        np.testing.assert_array_equal(row[:, :3], texts["hidden_states.2"][0])
        np.testing.assert_array_equal(row[:, 3:5], others["normed_hidden_states.1"][0])


@pytest.mark.parametrize(("text", "length"), [(CIRCLE, 77), ("red " * 80, 154)])
def test_absent_encoders_do_not_grow_with_a_prompt(
    text: str, length: int, pipe: Pipeline, networks: Invented
) -> None:
    pipe(text, negative_prompt=CIRCLE, prompt_syntax="a1111", **SHORT)
    context = networks.feeds["transformer"][0]["encoder_hidden_states"]
    assert context.shape == (2, length + 5, WIDTH)
    assert not context[:, length:].any()


@pytest.mark.parametrize(("negative", "is_zeros"), [(None, True), ("", False), (BLURRY, False)])
def test_a_negative_prompt_that_is_not_given_is_zeros(
    negative: str | None, is_zeros: bool, pipe: Pipeline, networks: Invented
) -> None:
    pipe([CIRCLE, STAR], negative_prompt=negative, **SHORT)
    feeds = networks.feeds["transformer"][0]
    for name in ("encoder_hidden_states", "text_embeds"):
        assert [not row.any() for row in feeds[name]] == [is_zeros, is_zeros, False, False]


def test_each_encoder_has_its_own_texts(pipe: Pipeline, networks: Invented) -> None:
    texts: dict[str, Any] = {
        "prompt_2": [STAR, BLURRY],
        "negative_prompt": BLURRY,
        "negative_prompt_2": CIRCLE,
    }
    pipe([CIRCLE, STAR], **texts, **SHORT)
    assert texts_read(networks, "words") == ids_of(pipe, BLURRY, CIRCLE, STAR)
    assert texts_read(networks, "meaning") == ids_of(pipe, CIRCLE, STAR, BLURRY)


@pytest.mark.parametrize("second", [None, ""])
def test_the_second_text_is_the_first_by_default(
    second: str | None, pipe: Pipeline, networks: Invented
) -> None:
    pipe(CIRCLE, prompt_2=second, negative_prompt=STAR, negative_prompt_2=second, **SHORT)
    for name in ("words", "meaning"):
        assert texts_read(networks, name) == ids_of(pipe, STAR, CIRCLE)


def test_texts_that_are_not_given_are_not_encoded(pipe: Pipeline, networks: Invented) -> None:
    pipe([CIRCLE, CIRCLE], prompt_2=STAR, **SHORT)
    assert texts_read(networks, "words") == ids_of(pipe, CIRCLE)
    assert texts_read(networks, "meaning") == ids_of(pipe, STAR)


def texts_read(networks: Invented, name: str) -> list[list[int]]:
    (feeds,) = networks.feeds[name]
    return [ids.tolist() for ids in feeds["input_ids"]]


def ids_of(pipe: Pipeline, *texts: str) -> list[list[int]]:
    tokenizer = ClipTokenizer.open(pipe.bundle.root / "tokenizer")
    return [tokenizer.encode(text).ids.tolist() for text in texts]


LONG = "red " * 80
NOTES: list[tuple[dict[str, Any], list[str]]] = [
    ({"prompt": LONG}, ["prompt: longer than the 77 tokens"]),
    ({"prompt": LONG, "prompt_2": CIRCLE}, ["prompt: longer than the 77 tokens"]),
    ({"prompt_2": LONG}, ["prompt_2: longer than the 77 tokens"]),
    (
        {"prompt_2": LONG, "negative_prompt": CIRCLE, "negative_prompt_2": "blue " * 80},
        ["negative_prompt_2: longer than the 77 ", "prompt_2: longer than the 77 tokens"],
    ),
    ({"prompt_2": "a (red:1.5) star"}, ["prompt_2: '(red:1.5)' is read as words"]),
    (
        {"negative_prompt": CIRCLE, "negative_prompt_2": "(red:1.5)"},
        ["negative_prompt_2: '(red:1.5)' is read as words"],
    ),
    ({"negative_prompt_2": STAR}, ["negative_prompt_2: has no effect without negative_prompt"]),
    (
        {"negative_target_size": (8, 8)},
        ["negative_target_size: has no effect without negative_original_size"],
    ),
    (
        {"negative_prompt": STAR, "negative_prompt_2": STAR, "guidance_scale": 1},
        [
            "negative_prompt: has no effect without guidance",
            "negative_prompt_2: has no effect without guidance",
        ],
    ),
    (
        {
            "negative_original_size": (8, 8),
            "negative_prompt_2": STAR,
            "guidance_scale": 1,
        },
        [
            "negative_prompt_2: has no effect without guidance",
            "negative_original_size: has no effect without guidance",
        ],
    ),
]


@pytest.mark.parametrize(("options", "expected"), NOTES)
def test_what_is_not_honoured_is_noted(
    options: dict[str, Any], expected: list[str], pipe: Pipeline
) -> None:
    stream = pipe.stream(**{"prompt": CIRCLE} | options, **SHORT)
    list(stream)
    notes = [note.message for note in stream.result.notes]
    assert [note[: len(text)] for note, text in zip(notes, expected, strict=True)] == expected


def test_texts_and_sizes_are_recorded_for_each_image(pipe: Pipeline) -> None:
    given: dict[str, Any] = {
        "prompt_2": [STAR, BLURRY],
        "negative_prompt": BLURRY,
        "negative_prompt_2": [CIRCLE, STAR],
        "original_size": (40, 48),
        "crops_coords_top_left": (0, 8),
    }
    batch = pipe([CIRCLE, STAR], **given, **SHORT)
    for recorded, latents in zip(batch.parameters, batch.latents, strict=True):
        plain = json.loads(json.dumps(recorded))
        request = Request(**{name: plain[name] for name in PARAMETER if name in plain})
        np.testing.assert_allclose(pipe(request).latents[0], latents, rtol=0, atol=1e-6)
    assert "negative_prompt" not in pipe(CIRCLE, **SHORT).parameters[0]
    assert pipe(CIRCLE, negative_prompt="", **SHORT).parameters[0]["negative_prompt"] == ""


def test_an_encoder_that_is_needed_is_missed(bundle: Bundle) -> None:
    left = tuple(each for each in bundle.manifest.components if each.name != "meaning")
    pipe = Pipeline(
        Bundle(bundle.root, replace(bundle.manifest, components=left)), resolve_target("cpu")
    )
    with pytest.raises(BundleError, match=r"no component 'meaning' \(found: words, transformer"):
        pipe.stream(CIRCLE, **SHORT)
