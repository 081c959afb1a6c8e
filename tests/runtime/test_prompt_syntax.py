"""Requests in A1111's prompt syntax, through networks that are Python functions."""

from __future__ import annotations

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, Pipeline, Request, RequestError
from sdrt.bundle.manifest import Merged
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_engines import Array, resolve_target
from support.driving import assert_as_alone
from support.function_networks import (
    CIRCLE,
    CONTROLLED_UNET,
    INPAINTING_UNET,
    NETWORKS,
    STAR,
    UNET,
    VAE_ENCODER,
    Networks,
    control,
    controlnet,
    encode,
    encode_image,
    predict_controlled,
)
from support.images import mask, sample_image
from support.toy_bundle import write_toy_bundle

SHORT: dict[str, Any] = {"num_inference_steps": 4, "seed": 0, "width": 96, "height": 88}
A1111: dict[str, Any] = {"prompt_syntax": "a1111", **SHORT}
LONG = "red " * 100


@pytest.fixture
def networks() -> Networks:
    return Networks(
        unet=(UNET, predict),
        vae_encoder=(VAE_ENCODER, encode_image),
        unet_controlled=(CONTROLLED_UNET, predict_controlled),
        controlnet_edges=(controlnet(3), control),
    )


@pytest.fixture
def pipe(bundle: Bundle, networks: Networks) -> Pipeline:
    return Pipeline(bundle, resolve_target("cpu"), networks.engines)


@pytest.fixture(scope="module")
def tokenizer(bundle: Bundle) -> ClipTokenizer:
    return ClipTokenizer.open(bundle.tokenizer_folder())


def predict(feeds: dict[str, Array]) -> dict[str, Array]:
    """A prediction in which each number of the text counts: weights keep their mean."""
    text = (feeds["encoder_hidden_states"] ** 3).mean(axis=(1, 2))[:, None, None, None]
    return {"out_sample": feeds["sample"] / (1 + abs(feeds["sample"])) + text}


def states_of(text: str, tokenizer: ClipTokenizer) -> Array:
    states = encode({"input_ids": tokenizer.encode(text).ids[None]})["last_hidden_state"]
    return np.asarray(states[0])


def positives(networks: Networks, name: str = "unet") -> list[Array]:
    """The context of the last row in each call."""
    return [feeds["encoder_hidden_states"][-1] for feeds in networks.feeds[name]]


@pytest.mark.parametrize("text", [CIRCLE, "", "a (red:1.0) circle", "a [red:red:2] circle"])
def test_weight_1_gives_the_image_of_the_plain_prompt(pipe: Pipeline, text: str) -> None:
    plain = pipe(CIRCLE if "circle" in text else "", negative_prompt=STAR, **SHORT)
    result = pipe(text, negative_prompt=STAR, **A1111)
    np.testing.assert_array_equal(result.latents, plain.latents)
    assert result.notes == ()


def test_weights_and_long_prompts_change_the_image(pipe: Pipeline) -> None:
    latents = [
        pipe(text, negative_prompt=STAR, **A1111).latents
        for text in (CIRCLE, "a (red:1.4) circle", "a [red] circle", f"{CIRCLE} BREAK star")
    ]
    for index, each in enumerate(latents):
        assert all((each != other).any() for other in latents[:index])


def test_the_whole_of_a_long_prompt_is_read(pipe: Pipeline, networks: Networks) -> None:
    result = pipe(LONG + CIRCLE, **A1111)
    assert result.notes == ()
    assert positives(networks)[0].shape == (154, 3)


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("[red:blue:2]", {}, "red red red blue"),
        ("[red:blue:0.25]", {}, "red red blue blue"),
        ("[red|blue]", {}, "red red blue red"),
        ("[red:blue:2]", {"scheduler": "heun"}, "red red red blue blue blue blue"),
        # a share counts both calls of a step
        ("[red:blue:0.25]", {"scheduler": "heun"}, "red red red blue blue blue blue"),
        (
            "[red|blue|a|star|circle|small]",
            {"num_inference_steps": 8},
            "red red blue a star circle small red",
        ),
    ],
)
def test_edited_prompts_change_from_call_to_call(
    text: str,
    options: dict[str, Any],
    words: str,
    pipe: Pipeline,
    networks: Networks,
    tokenizer: ClipTokenizer,
) -> None:
    pipe(text, **A1111 | options)
    for context, word in zip(positives(networks), words.split(), strict=True):
        np.testing.assert_array_equal(context, states_of(word, tokenizer))


def test_steps_that_an_image_leaves_out_are_not_counted(
    pipe: Pipeline, networks: Networks, tokenizer: ClipTokenizer
) -> None:
    """As in A1111, which counts from the first step that runs, and shares of all steps."""
    image = sample_image(96, 88)
    pipe("[red:blue:0.25]", image=image, strength=0.75, **A1111)
    for context, word in zip(positives(networks), ["red", "red", "blue"], strict=True):
        np.testing.assert_array_equal(context, states_of(word, tokenizer))


def test_controlnets_read_the_words_of_the_call(
    pipe: Pipeline, networks: Networks, tokenizer: ClipTokenizer
) -> None:
    pipe("[red:blue:1]", control={"edges": sample_image(96, 88)}, **A1111)
    for name in ("controlnet_edges", "unet_controlled"):
        for context, word in zip(
            positives(networks, name), ["red", "red", "blue", "blue"], strict=True
        ):
            np.testing.assert_array_equal(context, states_of(word, tokenizer))


def test_a_refiner_counts_the_calls_before_it(bundle: Bundle, tokenizer: ClipTokenizer) -> None:
    refiner = {f"refiner.{name}": each for name, each in NETWORKS.items()}
    networks = Networks(**refiner)
    pipe = Pipeline(bundle.refined_by(bundle), resolve_target("cpu"), networks.engines)
    pipe("[red:blue:2]", refiner_start=0.5, **A1111)
    contexts = positives(networks) + positives(networks, "refiner.unet")
    for context, word in zip(contexts, ["red", "red", "red", "blue"], strict=True):
        np.testing.assert_array_equal(context, states_of(word, tokenizer))


def test_clip_skip_is_for_the_negative_prompt_too(pipe: Pipeline, networks: Networks) -> None:
    pipe(CIRCLE, negative_prompt=CIRCLE, clip_skip=1, **A1111)
    negative, positive = networks.feeds["unet"][0]["encoder_hidden_states"]
    np.testing.assert_array_equal(negative, positive)


# --- batches


def test_requests_of_all_lengths_give_in_common_runs_what_each_gives_alone(pipe: Pipeline) -> None:
    requests = {
        "plain": Request(CIRCLE, negative_prompt=STAR, **SHORT),
        "weights": Request("a (red:1.4) circle", negative_prompt="[blue]", **A1111),
        "edited": Request("a [red|blue] circle", negative_prompt="[a:b:2]", **A1111),
        "long": Request(LONG, **A1111),
        "other": Request(f"{LONG} (blue:0.5)", negative_prompt=LONG, **A1111 | {"seed": 3}),
        "longer": Request(LONG * 2, negative_prompt=LONG, **A1111),
    }
    runs = assert_as_alone(pipe, requests)
    joined = {names for names, ask in runs if ask.chain[-1].component == "unet"}
    assert {frozenset(names) for names in joined} == {
        frozenset({"plain", "weights", "edited"}),
        frozenset({"long", "other"}),
        frozenset({"longer"}),
    }


def test_prompts_of_different_lengths_in_one_request(pipe: Pipeline, networks: Networks) -> None:
    """Those of one length share a run."""
    prompts = [CIRCLE, LONG, f"{LONG} [a|b]", STAR, LONG * 2]
    options = A1111 | {"scheduler": "euler_a", "control": {"edges": sample_image(96, 88)}}
    batch = pipe(prompts, negative_prompt=STAR, **options)
    shapes = [feeds["encoder_hidden_states"].shape for feeds in networks.feeds["unet_controlled"]]
    assert shapes == [(4, 77, 3), (4, 154, 3), (2, 231, 3)] * 4
    for index, prompt in enumerate(prompts):
        alone = pipe(prompt, negative_prompt=STAR, **options | {"seed": index})
        np.testing.assert_array_equal(batch.latents[index], alone.latents[0])


@pytest.mark.parametrize("channels", [4, 9])
def test_masked_images_have_prompts_of_different_lengths(channels: int, tmp_path: Path) -> None:
    def predict_first(feeds: dict[str, Array]) -> dict[str, Array]:
        """A prediction in which an inpainting UNet's further channels count, too."""
        further = feeds["sample"][:, 4:].sum(axis=1, keepdims=True)
        predicted = predict({**feeds, "sample": feeds["sample"][:, :4]})["out_sample"]
        return {"out_sample": predicted + further / 9}

    unet = INPAINTING_UNET if channels == 9 else UNET
    networks = Networks(unet=(unet, predict_first), vae_encoder=(VAE_ENCODER, encode_image))
    bundle = Bundle.open(write_toy_bundle(tmp_path / "bundle", unet_channels=channels))
    pipe = Pipeline(bundle, resolve_target("cpu"), networks.engines)
    masked: dict[str, Any] = {
        "image": sample_image(96, 88),
        "mask_image": mask(96, 88, (16, 8, 40, 32)),
    }
    batch = pipe([LONG, STAR], **masked, **A1111)
    alone = pipe(STAR, **masked, **A1111 | {"seed": 1})
    np.testing.assert_array_equal(batch.latents[1], alone.latents[0])


# --- the cache


def test_a_prompt_that_comes_again_is_not_encoded(pipe: Pipeline, networks: Networks) -> None:
    first = pipe(CIRCLE, negative_prompt=STAR, **SHORT)
    again = pipe(CIRCLE, negative_prompt=STAR, **SHORT)
    assert networks.num_runs["text_encoder"] == 1
    np.testing.assert_array_equal(again.latents, first.latents)
    assert "text_encoder" in first.timings.seconds
    assert "text_encoder" not in again.timings.seconds
    pipe("a (red:1.4) circle", negative_prompt="(a small blue star:0.8)", **A1111)
    assert networks.num_runs["text_encoder"] == 1  # the same tokens
    pipe(CIRCLE, negative_prompt="", **SHORT)
    assert networks.num_runs["text_encoder"] == 2
    assert len(networks.feeds["text_encoder"][1]["input_ids"]) == 1


def test_another_layer_is_another_output(pipe: Pipeline, networks: Networks) -> None:
    pipe(CIRCLE, **SHORT)
    skipped = pipe(CIRCLE, clip_skip=1, **SHORT)
    assert networks.num_runs["text_encoder"] == 2
    np.testing.assert_array_equal(pipe(CIRCLE, clip_skip=1, **SHORT).latents, skipped.latents)
    assert networks.num_runs["text_encoder"] == 2


def test_without_a_cache_each_request_encodes(bundle: Bundle, networks: Networks) -> None:
    pipe = Pipeline(bundle, resolve_target("cpu"), networks.engines, text_cache=0)
    for _ in range(3):
        pipe(CIRCLE, **SHORT)
    assert networks.num_runs["text_encoder"] == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
def test_a_forked_process_begins_without_a_cache(pipe: Pipeline) -> None:
    pipe(CIRCLE, **SHORT)
    with pipe._texts._changing:  # as another thread may hold it at that moment
        child = os.fork()
        if child == 0:
            signal.alarm(10)  # seconds: it would wait for a lock for ever
            os._exit(0 if pipe._texts.get("any") is None and pipe._texts.size == 0 else 1)
    assert os.waitpid(child, 0)[1] == 0


# --- notes and refusals


def test_tags_of_merged_loras_have_no_note(bundle: Bundle, networks: Networks) -> None:
    hashes = ("0" * 64, "0" * 12)
    loras = (Merged("lora", "my style", *hashes, 0.8), Merged("lora", "lcm", *hashes))
    changed = replace(bundle, manifest=replace(bundle.manifest, merged=loras))
    pipe = Pipeline(changed, resolve_target("cpu"), networks.engines)
    assert pipe("a <lora:my style:0.80> <lora:lcm>", **A1111).notes == ()
    tags = "<lora:my style:0.5> <lora:style:0.8> <hypernet:lcm:1> <lora:lcm:x> <lora:lcm:1:0>"
    (note,) = pipe(f"a {tags} <lora:lcm:1>", **A1111).notes
    assert f"prompt: {tags.replace('> ', '>, ')} is left out" in note.message


@pytest.mark.parametrize(
    ("text", "code", "message"),
    [
        (
            "a cat <lora:my lora v1.1:0.8>, <hypernet:x:1> <lora:my lora v1.1:0.8>",
            "prompt_tags",
            "prompt: <lora:my lora v1.1:0.8>, <hypernet:x:1> is left out: add a LoRA to the bundle "
            "at export, with `sdrt export --lora FILE:SCALE`",
        ),
        (
            "a <lora:\x1b]0;x\x07:1>",
            "prompt_tags",
            "prompt: <lora:?]0;x?:1> is left out: add a LoRA to the bundle at export, with "
            "`sdrt export --lora FILE:SCALE`",
        ),
        (
            "a cat AND a dog",
            "prompt_composed",
            "prompt: 'AND' is read as words: A1111 would compose several prompts, or weigh this "
            "one, which sdrt does not do",
        ),
        (
            "it is 10:30",
            "prompt_composed",
            "prompt: ':30' is read as words: A1111 would compose several prompts, or weigh this "
            "one, which sdrt does not do",
        ),
        (
            "a (red circle",
            "prompt_bracket",
            r"prompt: a '(' is not closed, and so weighs all that follows: write '\(' for the "
            "bracket itself",
        ),
        (
            "a (red BREAK circle)",
            "prompt_break",
            "prompt: a BREAK in brackets is a word, as in A1111: write it outside of them",
        ),
    ],
)
def test_what_a_reader_may_not_expect_is_noted(
    pipe: Pipeline, text: str, code: str, message: str
) -> None:
    stream = pipe.stream(text, **A1111)
    list(stream)
    (note,) = stream.result.notes
    assert (note.code, note.field, note.message) == (code, "prompt", message)


def test_each_field_has_its_notes(pipe: Pipeline) -> None:
    stream = pipe.stream([CIRCLE, "<lora:a:1>"], negative_prompt="a AND (b", **A1111)
    list(stream)
    notes = [(note.code, note.field) for note in stream.result.notes]
    assert notes == [("prompt_tags", "prompt"), ("prompt_bracket", "negative_prompt")]


@pytest.mark.parametrize("text", ["<lora:a b.c:0.8>{}", "{}<lora:a>", "{}<lora:a-b_c (x):1:0.5>"])
def test_tags_do_not_reach_the_text_encoder(
    pipe: Pipeline, networks: Networks, tokenizer: ClipTokenizer, text: str
) -> None:
    pipe(text.format(CIRCLE), negative_prompt=text.format(STAR), **A1111)
    got = networks.feeds["text_encoder"][0]["input_ids"]
    np.testing.assert_array_equal(got, [tokenizer.encode(each).ids for each in (STAR, CIRCLE)])


def test_what_cannot_be_read_is_refused_before_any_work(pipe: Pipeline, networks: Networks) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"prompt": "(a:5000)"}, "prompt: the brackets give a weight of 5000"),
        ({"prompt": "a", "negative_prompt": "(a:1.2.3)"}, "negative_prompt: got the weight"),
        ({"prompt": "BREAK " * 100}, "prompt: it takes 100 chunks of 75 tokens"),
        ({"prompt": "a \ud800"}, "which cannot be encoded as UTF-8"),
    ]
    for options, message in cases:
        with pytest.raises(RequestError, match=message):
            pipe.stream(**options, **A1111)
    assert set(networks.num_runs.values()) == {0}


def test_an_unknown_syntax_is_refused() -> None:
    with pytest.raises(RequestError, match="prompt_syntax: got 'comfy', known: plain, a1111"):
        Request(CIRCLE, prompt_syntax="comfy")  # type: ignore[arg-type]


def test_the_syntax_is_recorded(pipe: Pipeline, tmp_path: Path) -> None:
    assert pipe(CIRCLE, **A1111).parameters[0]["prompt_syntax"] == "a1111"
    assert pipe(CIRCLE, **SHORT).parameters[0]["prompt_syntax"] == "plain"
