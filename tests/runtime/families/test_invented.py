"""A family unlike any other generates through the unchanged pipeline: two text encoders of
different widths and lengths, a pooled vector, time ids, latents of 6 channels at a scale of 4.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sdrt import Bundle, Pipeline
from sdrt.denoising.noise import TorchNoise
from sdrt.errors import BundleError, RequestError
from sdrt.families.family import (
    DenoiserFacts,
)
from sdrt_engines import resolve_target
from support.function_networks import CIRCLE, STAR
from support.images import sample_image
from support.invented import (
    CHANNELS,
    FAMILY,
    SHORT,
    Invented,
)


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


def test_the_denoiser_is_given_the_sizes(pipe: Pipeline, networks: Invented) -> None:
    pipe(CIRCLE, width=40, height=16, **SHORT)
    time_ids = networks.feeds["transformer"][0]["time_ids"]
    np.testing.assert_array_equal(time_ids, [[16, 40, 0, 0, 16, 40]] * 2)


def test_each_branch_is_given_its_sizes(pipe: Pipeline, networks: Invented) -> None:
    sizes: dict[str, Any] = {"negative_original_size": (5, 6), "negative_target_size": (7, 8)}
    pipe([CIRCLE, STAR], original_size=(1, 2), crops_coords_top_left=(3, 4), **sizes, **SHORT)
    time_ids = networks.feeds["transformer"][0]["time_ids"]
    expected = [[5, 6, 0, 0, 7, 8]] * 2 + [[1, 2, 3, 4, 24, 32]] * 2
    np.testing.assert_array_equal(time_ids, expected)


def test_numbers_that_it_does_not_take_are_refused(pipe: Pipeline) -> None:
    with pytest.raises(RequestError, match="aesthetic_score: got 6, but this bundle's model takes"):
        pipe(CIRCLE, aesthetic_score=6, **SHORT)


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
