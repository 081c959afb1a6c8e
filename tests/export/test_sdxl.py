"""Stable Diffusion XL end to end: options, what images record, requests that run together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sdrt import Control, Pipeline, Request
from sdrt.command_line.main import main
from sdrt.metadata.png import read_record
from support.driving import assert_as_alone
from support.images import mask, sample_image

pytestmark = pytest.mark.export

PROMPT, OTHER, BLURRY = "a red circle", "three cats", "blurry, low quality"
SIZES: dict[str, Any] = {"original_size": (700, 20), "crops_coords_top_left": (30, 4)}
NEGATIVE: dict[str, Any] = {
    "negative_prompt": BLURRY,
    "negative_original_size": (8, 9),
    "negative_target_size": (10, 11),
}


@pytest.fixture
def bundle(tiny_bundle: Callable[[str], Path]) -> Path:
    return tiny_bundle("xl")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    sample_image(48, 24).save("in.png")
    mask(48, 24, (8, 8, 32, 24)).save("mask.png")
    return tmp_path


def run(bundle: Path, name: str, *options: str) -> np.ndarray:
    arguments = ["run", str(bundle), *options, "-o", name, "--target", "cpu", "--num-threads", "1"]
    assert main([*arguments, "--steps", "3", "-q"]) == 0
    return np.asarray(Image.open(name))


TEXT = ["--prompt-2", OTHER, "-n", BLURRY, "--negative-prompt-2", PROMPT]
STATED = ["--original-size", "1024x768", "--crop", "0,128", "--target-size", "640x512"]
AGAINST = ["--negative-original-size", "8x9", "--negative-target-size", "7x6"]
RUNS = {
    "text": ["--width", "48", "--height", "24"],
    "two prompts": TEXT,
    "sizes": [*STATED, *AGAINST, "--negative-crop", "5,6"],
    "image": ["--image", "in.png", "--strength", "0.7", *TEXT, *STATED],
    "mask": ["--image", "in.png", "--mask", "mask.png", *STATED],
    "control": ["--control", "edges=in.png", *TEXT, *STATED],
}


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_images_record_what_made_them(options: list[str], bundle: Path, folder: Path) -> None:
    image = run(bundle, "a.png", PROMPT, *options, "--seed", "5")
    arguments = ["run", "--from-image", "a.png", "-o", "b.png", "--target", "cpu"]
    assert main([*arguments, "--num-threads", "1", "-q"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("b.png")), image)


def test_every_option_changes_the_image(bundle: Path, folder: Path) -> None:
    pairs = [
        *zip(TEXT[::2], TEXT[1::2], strict=True),
        *zip(STATED[::2], STATED[1::2], strict=True),
        ("-n", ""),
    ]
    plain = run(bundle, "plain.png", PROMPT, "-n", OTHER, "--seed", "5")
    for option, value in pairs:
        changed = run(bundle, "a.png", PROMPT, "-n", OTHER, "--seed", "5", option, value)
        assert (changed != plain).any(), option
    without = run(bundle, "a.png", PROMPT, "--seed", "5")
    assert (without != run(bundle, "a.png", PROMPT, "--seed", "5", "-n", "")).any()


def test_the_record_has_diffusers_names(bundle: Path, folder: Path) -> None:
    run(bundle, "a.png", PROMPT, *STATED, "--prompt-2", OTHER, "--seed", "5")
    recorded = read_record(folder / "a.png").parameters
    assert recorded["original_size"] == [768, 1024]
    assert recorded["crops_coords_top_left"] == [0, 128]
    assert recorded["prompt_2"] == OTHER
    assert "negative_prompt" not in recorded


REQUESTS: dict[str, Request] = {
    "plain": Request(PROMPT, seed=1, num_inference_steps=5, scheduler="ddim"),
    "two prompts": Request(
        [PROMPT, OTHER], prompt_2=[OTHER, BLURRY], seed=2, num_inference_steps=6, **NEGATIVE
    ),
    "sizes": Request(OTHER, seed=3, num_inference_steps=4, scheduler="euler_a", **SIZES),
    "unguided": Request(OTHER, seed=4, num_inference_steps=5, guidance_scale=1.0, **SIZES),
    "control": Request(
        PROMPT,
        seed=5,
        num_inference_steps=4,
        control={"edges": Control(sample_image(32, 32), 0.8, end=0.7)},
        guess_mode=True,
        **SIZES,
        **NEGATIVE,
    ),
    "other control": Request(
        OTHER,
        negative_prompt="",
        seed=6,
        num_inference_steps=5,
        scheduler="heun",
        control={"edges": Control(sample_image(32, 32, seed=1))},
    ),
    "image": Request(
        PROMPT, seed=7, image=sample_image(32, 32), strength=0.7, num_inference_steps=5, **NEGATIVE
    ),
    "mask": Request(
        OTHER,
        seed=8,
        image=sample_image(32, 32),
        mask_image=mask(32, 32, (8, 8, 24, 24)),
        num_inference_steps=5,
        **SIZES,
    ),
}


def test_requests_together_give_what_each_gives_alone(bundle: Path) -> None:
    """The tiny UNet embeds its timestep in two sines. ONNX Runtime takes eight at a time, and the
    last bit of the others depends on the number of rows; real models have multiples of eight."""
    with Pipeline.open(bundle, "cpu", num_threads=1) as pipeline:
        runs = assert_as_alone(pipeline, REQUESTS, atol=1e-4)
    shared = [(set(names), ask) for names, ask in runs if len(names) > 1]
    denoised = [(names, ask) for names, ask in shared if "time_ids" in ask.chain[-1].constant.feeds]
    for wanted in ({"plain", "two prompts", "sizes"}, {"control", "other control"}):
        (joined, *_) = [ask for names, ask in denoised if wanted <= names]
        feeds = joined.chain[0].constant.feeds
        assert len(np.unique(feeds["time_ids"], axis=0)) > 1
        assert len(np.unique(feeds["text_embeds"], axis=0)) > 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--aesthetic-score", "7"],
            "aesthetic_score: got 7.0, but this bundle's model takes orig",
        ),
        (["--original-size", "0x8"], "original_size[1] (width): got 0, expected a whole number"),
    ],
)
def test_what_it_does_not_take_is_refused(
    options: list[str], message: str, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["run", str(bundle), PROMPT, *options]) == 1
    assert f"sdrt: {message}" in capsys.readouterr().err


def test_its_family_is_shown(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", str(bundle)]) == 0
    assert "stable-diffusion-xl (takes original_size, crop, target_size)" in capsys.readouterr().out
