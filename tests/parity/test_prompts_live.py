"""A1111's prompt syntax against diffusers, given text embeddings that A1111's formulas make."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch

from parity.pipeline_harness import (
    DIFFUSERS_WARNINGS,
    Case,
    Ours,
    Theirs,
    assert_same,
    assert_same_images,
    case,
    generated_by_diffusers,
    generated_by_us,
    generators,
    pixels,
)

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

Chunk: TypeAlias = Sequence[tuple[str, float]]  # words and their weights
RED: tuple[str, Sequence[Chunk]] = (
    "a (red circle:1.4) on [white]",
    [[("a ", 1), ("red circle", 1.4), (" on ", 1), ("white", 1 / 1.1)]],
)
LONG: tuple[str, Sequence[Chunk]] = (
    "red " * 75 + "(blue star:0.6), far away BREAK ((artist))",
    [[("red " * 75, 1)], [("blue star", 0.6), (", far away", 1)], [("artist", 1.21)]],
)
BLURRY: tuple[str, Sequence[Chunk]] = ("(blurry:-0.5) star", [[("blurry", -0.5), (" star", 1)]])
SHORT: dict[str, Any] = {"num_inference_steps": 5, "guidance_scale": 5.0}
NONE: tuple[str, Sequence[Chunk]] = ("", [[("", 1)]])


def encoded(pipe: Any, chunks: Sequence[Chunk], which: str = "") -> tuple[torch.Tensor, Any]:
    """The weighted states of an encoder (1, L, D), and the output for the first chunk."""
    tokenizer, encoder = (getattr(pipe, f"{name}{which}") for name in ("tokenizer", "text_encoder"))
    states, first = [], None
    for chunk in chunks:
        ids, weights = [tokenizer.bos_token_id], [1.0]
        for words, weight in chunk:
            own = tokenizer(words, add_special_tokens=False)["input_ids"]
            ids, weights = [*ids, *own], [*weights, *[weight] * len(own)]
        ids.append(tokenizer.eos_token_id)
        ids += [tokenizer.pad_token_id] * (77 - len(ids))
        weights += [1.0] * (77 - len(weights))
        with torch.no_grad():
            output = encoder(torch.tensor([ids]), output_hidden_states=True)
        first = first or output
        z = output.hidden_states[-2] if hasattr(pipe, "text_encoder_2") else output[0]
        scaled = z * torch.tensor(weights)[:, None]
        states.append(scaled * (z.mean() / scaled.mean()))
    return torch.cat(states, dim=1), first


def embeddings(pipe: Any, chunks: Sequence[Chunk]) -> tuple[torch.Tensor, torch.Tensor | None]:
    if not hasattr(pipe, "text_encoder_2"):
        return encoded(pipe, chunks)[0], None
    first, second = encoded(pipe, chunks), encoded(pipe, chunks, "_2")
    return torch.cat([first[0], second[0]], dim=-1), second[1][0]


def as_embeddings(pipe: Any, case: Case, positive: Any, negative: Any) -> dict[str, Any]:
    """The keywords for diffusers: the shorter text is repeated, as it wants one length."""
    (ours, pooled), (theirs, no_pooled) = embeddings(pipe, positive), embeddings(pipe, negative)
    length = int(np.lcm(ours.shape[1], theirs.shape[1]))
    texts = {
        "prompt": None,
        "negative_prompt": None,
        "prompt_embeds": ours.repeat(1, length // ours.shape[1], 1),
        "negative_prompt_embeds": theirs.repeat(1, length // theirs.shape[1], 1),
    }
    if pooled is not None:
        texts |= {"pooled_prompt_embeds": pooled, "negative_pooled_prompt_embeds": no_pooled}
    return texts


@pytest.mark.parametrize(
    ("recipe", "positive", "negative"),
    [
        ("classic", RED, BLURRY),
        ("classic", LONG, BLURRY),
        ("xl", LONG, BLURRY),
        pytest.param("classic", RED, LONG, marks=pytest.mark.full),
        pytest.param("xl", RED, NONE, marks=pytest.mark.full),
        pytest.param("linear_projection", LONG, RED, marks=pytest.mark.full),
    ],
)
def test_same_image(recipe: str, positive: Any, negative: Any, ours: Ours, theirs: Theirs) -> None:
    written = case(recipe, "euler", prompt=positive[0], negative_prompt=negative[0])
    pipe = theirs(recipe, "euler")
    texts = as_embeddings(pipe, written, positive[1], negative[1])
    expected = generated_by_diffusers(pipe, replace(written, theirs=texts))
    assert_same(
        generated_by_us(ours(recipe), replace(written, ours={"prompt_syntax": "a1111"})), expected
    )


def test_same_image_of_an_edited_prompt(ours: Ours, theirs: Theirs) -> None:
    """diffusers gets the other words in a callback. A1111's first version has a call more."""
    written = case(
        "classic", "euler", prompt="a [red:blue:2] (star:1.3)", negative_prompt="", **SHORT
    )
    drawn = generated_by_us(ours("classic"), replace(written, ours={"prompt_syntax": "a1111"}))
    pipe = theirs("classic", "euler")
    embeds = edited(pipe, "red", "blue")
    negative = embeddings(pipe, NONE[1])[0]

    def exchange(pipe: Any, index: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        if index == 2:  # after the third step
            tensors["prompt_embeds"] = torch.cat([negative, embeds[1]])
        return tensors

    images = pipe(
        prompt_embeds=embeds[0],
        negative_prompt_embeds=negative,
        generator=generators(1),
        callback_on_step_end=exchange,
        callback_on_step_end_tensor_inputs=["latents", "prompt_embeds"],
        **SHORT,
    ).images
    assert_same_images(drawn.images, pixels(images))


def edited(pipe: Any, *words: str) -> list[torch.Tensor]:
    """Versions of "a … (star:1.3)", whose mean is restored together."""
    tokens = [
        [
            pipe.tokenizer(part, add_special_tokens=False)["input_ids"]
            for part in (f"a {word} ", "star")
        ]
        for word in words
    ]
    ids, weights = [], []
    for first, second in tokens:
        inner = [*first, *second]
        rest = 76 - len(inner)
        ids.append([pipe.tokenizer.bos_token_id, *inner, *[pipe.tokenizer.eos_token_id] * rest])
        weights.append([1.0] * (1 + len(first)) + [1.3] * len(second) + [1.0] * rest)
    with torch.no_grad():
        z = pipe.text_encoder(torch.tensor(ids))[0]
    scaled = z * torch.tensor(weights)[..., None]
    scaled = scaled * (z.mean() / scaled.mean())
    return [each[None] for each in scaled]
