"""Embeddings against diffusers' `load_textual_inversion`: tokens, states, images."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from parity.pipeline_harness import (
    CIRCLE,
    DIFFUSERS_WARNINGS,
    LONG,
    Case,
    Theirs,
    assert_same,
    case,
    generated_by_diffusers,
    generated_by_us,
)
from sdrt import Pipeline
from sdrt.targets.engines import open_engine
from sdrt.text.clip_tokenizer import ClipTokenizer
from sdrt_export.adding import add_to_bundle
from support.clip_skip import repair_clip_skip

pytestmark = [
    pytest.mark.parity,
    *DIFFUSERS_WARNINGS,
    pytest.mark.filterwarnings("ignore:.*mean_resizing.*"),
]

Opened = Callable[[str], Pipeline]
RECIPES = ("classic", "xl_odd")  # the second one's configurations say that 2 ends a text
WIDTHS = {"classic": (8,), "xl_odd": (8, 14)}
# diffusers with transformers 5 does not find further vectors of a name with capitals.
BAD, DOG, STYLE = "bad_hands", "<Dog>", "my style v1.5"
VECTORS = {BAD: 4, DOG: 1, STYLE: 2}
PROMPTS = (
    CIRCLE,
    BAD,
    f"{BAD}, a red circle",
    f"a red circle {STYLE}, {BAD} {DOG}",
    f"{DOG} {DOG}{DOG} and {BAD}{BAD}",
    "red " * 71 + BAD,  # it just fits
    "red " * 73 + BAD,  # two of four vectors fit
    f"{LONG} {BAD}",
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Mapping[str, Path]]:
    """The embeddings for a recipe, by their tokens."""
    root = tmp_path_factory.mktemp("embeddings")

    @cache
    def of_recipe(recipe: str) -> Mapping[str, Path]:
        random = torch.Generator().manual_seed(5)
        written = {}
        for number, (token, count) in enumerate(VECTORS.items()):
            values = [torch.randn(count, width, generator=random) for width in WIDTHS[recipe]]
            keys = ("clip_l", "clip_g") if len(values) == 2 else ("emb_params",)
            written[token] = root / f"{recipe} {number}.safetensors"
            save_file(dict(zip(keys, values, strict=True)), written[token])
        return written

    return of_recipe


@pytest.fixture(scope="module")
def ours(
    tiny_bundle: Callable[[str], Path],
    files: Callable[[str], Mapping[str, Path]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Opened:
    """A recipe's bundle to which the embeddings were added."""
    root = tmp_path_factory.mktemp("bundles")

    @cache
    def opened(recipe: str) -> Pipeline:
        bundle = shutil.copytree(tiny_bundle(recipe), root / recipe)
        add_to_bundle(bundle, embeddings=[*files(recipe).items()])
        return Pipeline.open(bundle, "cpu", num_threads=1)

    return opened


@pytest.fixture(scope="module")
def diffusers_pipe(
    tiny_checkpoint: Callable[[str], Path], files: Callable[[str], Mapping[str, Path]]
) -> Callable[[str], Any]:
    """diffusers' pipeline with the same embeddings."""
    from diffusers import DiffusionPipeline

    @cache
    def loaded(recipe: str) -> Any:
        pipe = DiffusionPipeline.from_pretrained(tiny_checkpoint(recipe))
        pipe.set_progress_bar_config(disable=True)
        for token, path in files(recipe).items():
            for values, (encoder, tokenizer) in zip(
                ordered(load_file(path)), encoders_of(pipe), strict=True
            ):
                pipe.load_textual_inversion(
                    values, token=token, text_encoder=encoder, tokenizer=tokenizer
                )
        for encoder, tokenizer in encoders_of(pipe):
            # transformers takes the pooled vector at the greatest id if this is 2
            for module in encoder.modules():
                if hasattr(module, "eos_token_id"):
                    module.eos_token_id = tokenizer.eos_token_id
        return pipe

    return loaded


def ordered(tensors: Mapping[str, torch.Tensor]) -> list[torch.Tensor]:
    return [tensors[key] for key in ("emb_params", "clip_l", "clip_g") if key in tensors]


def encoders_of(pipe: Any) -> list[tuple[Any, Any]]:
    pairs = [(pipe.text_encoder, pipe.tokenizer)]
    if hasattr(pipe, "text_encoder_2"):
        pairs.append((pipe.text_encoder_2, pipe.tokenizer_2))
    return pairs


@pytest.mark.parametrize("recipe", RECIPES)
def test_tokens_and_states(recipe: str, ours: Opened, diffusers_pipe: Callable[[str], Any]) -> None:
    bundle, pipe = ours(recipe).bundle, diffusers_pipe(recipe)
    for encoder, (theirs, their_tokenizer) in zip(
        bundle.family.text.encoders, encoders_of(pipe), strict=True
    ):
        tokenizer = ClipTokenizer.open(bundle.tokenizer_folder(encoder.tokenizer))
        with open_engine(bundle, encoder.component, "cpu", num_threads=1) as engine:
            for prompt in PROMPTS:
                ids = their_tokenizer(
                    pipe.maybe_convert_prompt(prompt, their_tokenizer),
                    padding="max_length",
                    max_length=77,
                    truncation=True,
                    return_tensors="pt",
                ).input_ids
                tokens = tokenizer.encode(prompt)
                np.testing.assert_array_equal(tokens.ids, ids[0], err_msg=prompt)
                with torch.no_grad():
                    expected = theirs(ids, output_hidden_states=True)
                got = engine.run({"input_ids": tokens.ids[None]})
                for name, array in got.items():
                    if name in expected:
                        np.testing.assert_allclose(array, expected[name], atol=1e-5, rtol=1e-5)
                for number, states in enumerate(expected.hidden_states):
                    ours_of_layer = got[f"hidden_states.{number}"]
                    np.testing.assert_allclose(ours_of_layer, states, atol=1e-5, rtol=1e-5)


CASES = [
    case("classic", prompt=f"{DOG} on a white background", negative_prompt=BAD),
    case(
        "classic",
        "euler_a",
        prompt=[f"{STYLE}, {BAD}", CIRCLE],
        negative_prompt=[f"{BAD} {DOG}", "blurry"],
    ),
    case("classic", prompt="red " * 73 + BAD, clip_skip=1),
    case("xl_odd", prompt=f"{BAD} {DOG}", negative_prompt=f"{STYLE} blurry"),
    case("xl_odd", prompt=CIRCLE, prompt_2=f"{LONG} {BAD}", negative_prompt=BAD),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_images(
    case: Case, ours: Opened, diffusers_pipe: Callable[[str], Any], theirs: Theirs
) -> None:
    pipe = repair_clip_skip(diffusers_pipe(case.recipe))
    with_scheduler = theirs(case.recipe, case.scheduler, **pipe_parts(pipe))
    assert_same(
        generated_by_us(ours(case.recipe), case), generated_by_diffusers(with_scheduler, case)
    )


def pipe_parts(pipe: Any) -> dict[str, Any]:
    names = ("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    return {name: getattr(pipe, name) for name in names if hasattr(pipe, name)}


def test_a_cut_embedding_is_noted(ours: Opened) -> None:
    stream = ours("classic").stream("red " * 73 + BAD, num_inference_steps=1, seed=0)
    list(stream)
    (note,) = (each for each in stream.result.notes if each.code == "prompt_truncated")
    assert f"this part has no influence on the image: '{BAD}'" in str(note)


def test_the_image_says_which_embeddings_its_bundle_has(ours: Opened, tmp_path: Path) -> None:
    stream = ours("classic").stream(CIRCLE, num_inference_steps=1, seed=0)
    list(stream)
    merged = stream.result.parameters[0]["merged"]
    assert [(each["kind"], each["name"]) for each in merged] == [
        ("embedding", token) for token in VECTORS
    ]
