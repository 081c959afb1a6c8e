"""A family unlike any other generates through the unchanged pipeline: two text encoders of
different widths and lengths, a pooled vector, time ids, latents of 6 channels at a scale of 4.
"""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, Pipeline
from sdrt.bundle.file_records import record_file
from sdrt.bundle.manifest import Component, FileRecord
from sdrt.denoising.noise import TorchNoise
from sdrt.errors import BundleError, RequestError
from sdrt.families.family import (
    DenoiserFacts,
    Encoder,
    Family,
    LatentSpace,
    Role,
    TextRecipe,
)
from sdrt_engines import Array, Signature, resolve_target
from support.function_networks import CIRCLE, STAR, Function, Networks
from support.images import sample_image
from support.onnx_writer import spec
from support.toy_bundle import write_toy_bundle

CHANNELS, SCALE, WIDTH = 6, 4, 8
LATENTS = ("B", CHANNELS, "h", "w")
SHORT: dict[str, Any] = {"num_inference_steps": 3, "seed": 5}

FAMILY = Family(
    name="invented",
    text=TextRecipe(
        encoders=(
            Encoder("words", "tokenizer", layer=-2, normed=False),
            Encoder("meaning", "tokenizer_2", pooled="text_embeds"),
            Encoder("depths", "tokenizer_3", kind="t5", max_tokens=5, required=False),
        ),
        context=((0, 1), (2,)),
        pooled=(1,),
        width=WIDTH,
        missing_negative="zeros",
    ),
    latents=LatentSpace(CHANNELS, SCALE, 0.5, shift_factor=0.1, multiple=2),
    denoiser=DenoiserFacts("transformer", time_ids=("original_size", "crop", "target_size")),
    defaults={"guidance_scale": 4.0, "num_inference_steps": 9, "height": 24, "width": 32},
)
ROLES: dict[str, Role] = {
    "words": "text encoder",
    "meaning": "text encoder",
    "transformer": "denoiser",
    "coder": "vae encoder",
    "painter": "vae decoder",
}


def words(feeds: dict[str, Array]) -> dict[str, Array]:
    """States of width 3 that identify the layer."""
    states = np.sin(feeds["input_ids"])[..., None].repeat(3, axis=2).astype(np.float32)
    layers = {f"hidden_states.{i}": states + i for i in range(4)}
    return {"last_hidden_state": states + 99, **layers}


def meaning(feeds: dict[str, Array]) -> dict[str, Array]:
    """States of width 2, and a pooled vector of 5."""
    states = np.cos(feeds["input_ids"])[..., None].repeat(2, axis=2).astype(np.float32)
    layers = {f"normed_hidden_states.{i}": states * i for i in range(3)}
    pooled = states.mean(1).repeat(3, axis=1)[:, :5]
    return {"last_hidden_state": states, "text_embeds": pooled, **layers}


def denoise(feeds: dict[str, Array]) -> dict[str, Array]:
    steering = feeds["encoder_hidden_states"].mean((1, 2)) + feeds["text_embeds"].mean(1)
    steering += feeds["time_ids"].sum(1) / 1000 + feeds["timestep"] / 1000
    return {"out_sample": feeds["sample"] * 0.1 + steering[:, None, None, None] / 10}


def encode_image(feeds: dict[str, Array]) -> dict[str, Array]:
    small = feeds["sample"][:, [0, 1, 2, 0, 1, 2], ::SCALE, ::SCALE]
    return {"latent_parameters": np.concatenate([small, np.full_like(small, -4)], axis=1)}


def paint(feeds: dict[str, Array]) -> dict[str, Array]:
    return {"sample": feeds["latent_sample"][:, :3].repeat(SCALE, axis=2).repeat(SCALE, axis=3) / 9}


IDS = (spec("input_ids", "int64", "B", 77),)
NETWORKS: dict[str, tuple[Signature, Function]] = {
    "words": (
        Signature(
            IDS,
            (
                spec("last_hidden_state", "float32", "B", 77, 3),
                *(spec(f"hidden_states.{i}", "float32", "B", 77, 3) for i in range(4)),
            ),
        ),
        words,
    ),
    "meaning": (
        Signature(
            IDS,
            (
                spec("last_hidden_state", "float32", "B", 77, 2),
                spec("text_embeds", "float32", "B", 5),
                *(spec(f"normed_hidden_states.{i}", "float32", "B", 77, 2) for i in range(3)),
            ),
        ),
        meaning,
    ),
    "transformer": (
        Signature(
            (
                spec("sample", "float32", *LATENTS),
                spec("timestep", "float32", "B"),
                spec("encoder_hidden_states", "float32", "B", "L", WIDTH),
                spec("text_embeds", "float32", "B", 5),
                spec("time_ids", "float32", "B", 6),
            ),
            (spec("out_sample", "float32", *LATENTS),),
        ),
        denoise,
    ),
    "coder": (
        Signature(
            (spec("sample", "float32", "B", 3, "H", "W"),),
            (spec("latent_parameters", "float32", "B", 2 * CHANNELS, "h", "w"),),
        ),
        encode_image,
    ),
    "painter": (
        Signature(
            (spec("latent_sample", "float32", *LATENTS),),
            (spec("sample", "float32", "B", 3, "H", "W"),),
        ),
        paint,
    ),
}


def component(name: str) -> Component:
    file = FileRecord(f"{name}/model.onnx", "0" * 64, 1)
    return Component(name, ROLES[name], file.path, NETWORKS[name][0], "float32", (file,))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The files of the toy bundle with other networks, which cannot be opened."""
    root = write_toy_bundle(tmp_path_factory.mktemp("bundle") / "bundle")
    shutil.copytree(root / "tokenizer", root / "tokenizer_2")
    toy = Bundle.open(root)
    manifest = replace(
        toy.manifest,
        family=FAMILY,
        components=tuple(component(name) for name in NETWORKS),
        files=(*toy.manifest.files, *records_in(root, "tokenizer_2")),
        defaults={},
    )
    return Bundle(root, manifest)


def records_in(root: Path, folder: str) -> tuple[FileRecord, ...]:
    return tuple(record_file(root, path) for path in sorted((root / folder).iterdir()))


class Invented(Networks):
    """Only the family's networks."""

    def __init__(self) -> None:
        super().__init__(**NETWORKS)
        self.engines = {name: self.engines[name] for name in NETWORKS}
        self.feeds = {name: self.feeds[name] for name in NETWORKS}


@pytest.fixture
def networks() -> Invented:
    return Invented()


@pytest.fixture
def pipe(bundle: Bundle, networks: Invented) -> Pipeline:
    return Pipeline(bundle, resolve_target("cpu"), networks.engines)


def test_it_generates_at_its_own_size_and_steps(pipe: Pipeline, networks: Invented) -> None:
    result = pipe(CIRCLE, seed=5)
    assert result.images[0].size == (32, 24)
    assert result.latents.shape == (1, CHANNELS, 6, 8)
    assert networks.num_runs == {
        "words": 1,
        "meaning": 1,
        "transformer": 9,
        "coder": 0,
        "painter": 1,
    }


def test_the_noise_has_its_channels(pipe: Pipeline, networks: Invented) -> None:
    pipe(CIRCLE, **SHORT)
    first = networks.feeds["transformer"][0]["sample"]
    noise = TorchNoise(5).normal((1, CHANNELS, 6, 8))
    np.testing.assert_array_equal(first, np.concatenate([noise, noise]))


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


def test_an_empty_negative_prompt_is_zeros(pipe: Pipeline, networks: Invented) -> None:
    pipe([CIRCLE, STAR], negative_prompt=["", STAR], **SHORT)
    feeds = networks.feeds["transformer"][0]
    for name in ("encoder_hidden_states", "text_embeds"):
        filled = [bool(row.any()) for row in feeds[name]]
        assert filled == [False, True, True, True]


def test_an_encoder_that_is_needed_is_missed(bundle: Bundle) -> None:
    left = tuple(each for each in bundle.manifest.components if each.name != "meaning")
    pipe = Pipeline(
        Bundle(bundle.root, replace(bundle.manifest, components=left)), resolve_target("cpu")
    )
    with pytest.raises(BundleError, match=r"no component 'meaning' \(found: words, transformer"):
        pipe.stream(CIRCLE, **SHORT)


def test_the_denoiser_is_given_the_sizes(pipe: Pipeline, networks: Invented) -> None:
    pipe(CIRCLE, width=40, height=16, **SHORT)
    time_ids = networks.feeds["transformer"][0]["time_ids"]
    np.testing.assert_array_equal(time_ids, [[16, 40, 0, 0, 16, 40]] * 2)


def test_latents_have_its_scale_and_shift(pipe: Pipeline, networks: Invented) -> None:
    result = pipe(CIRCLE, image=sample_image(32, 24), strength=0.4, **SHORT)
    (decoded,) = networks.feeds["painter"]
    np.testing.assert_allclose(decoded["latent_sample"], result.latents / 0.5 + 0.1, rtol=1e-6)
    assert networks.num_runs["coder"] == 1


def test_sizes_are_multiples_of_its_patches(pipe: Pipeline) -> None:
    with pytest.raises(RequestError, match="height: got 20, expected a multiple of 8, such as 16"):
        pipe(CIRCLE, width=32, height=20)


def test_an_image_of_a_batch_can_be_made_again_alone(pipe: Pipeline) -> None:
    batch = pipe([CIRCLE, STAR], seed=40, num_inference_steps=4, scheduler="euler_a")
    for i, seed in enumerate(batch.seeds):
        alone = pipe((CIRCLE, STAR)[i], seed=seed, num_inference_steps=4, scheduler="euler_a")
        np.testing.assert_allclose(batch.latents[i], alone.latents[0], rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ("denoiser", "frames", "message"),
    [
        (
            DenoiserFacts(guidance="per-frame"),
            None,
            "have guidance 'per-frame', which this version",
        ),
        (DenoiserFacts(extra_channels="depth"), None, "have extra_channels 'depth', which this v"),
        (DenoiserFacts(), 16, "have frames, which this version of sdrt does not run"),
    ],
)
def test_facts_that_are_not_honoured_yet_are_refused(
    denoiser: DenoiserFacts, frames: int | None, message: str, bundle: Bundle
) -> None:
    family = replace(FAMILY, denoiser=denoiser, latents=replace(FAMILY.latents, frames=frames))
    changed = Bundle(bundle.root, replace(bundle.manifest, family=family))
    with pytest.raises(BundleError, match=message):
        Pipeline(changed, resolve_target("cpu")).stream(CIRCLE, **SHORT)


def test_an_encoder_of_another_kind_is_refused(bundle: Bundle) -> None:
    first, *others = FAMILY.text.encoders
    text = replace(FAMILY.text, encoders=(replace(first, kind="t5"), *others))
    family = replace(FAMILY, text=text)
    changed = Bundle(bundle.root, replace(bundle.manifest, family=family))
    with pytest.raises(BundleError, match="words: this sdrt does not run t5 encoders"):
        Pipeline(changed, resolve_target("cpu")).stream(CIRCLE, **SHORT)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"context": ((0, 2), (1,))}, r"context: the encoders \[0, 2\] differ in max_tokens"),
        ({"width": None}, "width: missing, but the zeros of an absent encoder need"),
        ({"pooled": (2,)}, "pooled: encoder 2 names no output for it, or may be absent"),
    ],
)
def test_recipes_that_cannot_be_followed_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(BundleError, match=message):
        replace(FAMILY.text, **change)


def test_states_wider_than_the_recipe_are_refused(bundle: Bundle, networks: Invented) -> None:
    family = replace(FAMILY, text=replace(FAMILY.text, width=4))
    changed = Bundle(bundle.root, replace(bundle.manifest, family=family))
    with pytest.raises(BundleError, match="the text encoders give vectors of size 5, expected 4"):
        Pipeline(changed, resolve_target("cpu"), networks.engines)(CIRCLE, **SHORT)


def test_the_bundle_s_defaults_come_before_the_family_s(bundle: Bundle, networks: Invented) -> None:
    defaults = {"width": 40, "height": 16, "num_inference_steps": 2}
    changed = Bundle(bundle.root, replace(bundle.manifest, defaults=defaults))
    result = Pipeline(changed, resolve_target("cpu"), networks.engines)(CIRCLE, seed=0)
    assert (result.images[0].size, networks.num_runs["transformer"]) == ((40, 16), 2)
