"""Requests against a bundle: what they leave open, and what the bundle cannot do."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sdrt.bundle.folder import Bundle
from sdrt.control import Control
from sdrt.errors import RequestError, SamplerError
from sdrt.job import job_from_request
from sdrt.request import Request, request_from
from sdrt.resolving import frame_of, settings_of
from sdrt_engines import Signature
from support.images import mask, sample_image
from support.onnx_writer import spec
from support.toy_bundle import write_toy_bundle

IMAGE = sample_image(128, 128)  # the bundle's own size
MASK = mask(128, 128, (32, 48, 64, 80))


def without(bundle: Bundle, *names: str) -> Bundle:
    left = tuple(each for each in bundle.manifest.components if each.name not in names)
    return Bundle(bundle.root, replace(bundle.manifest, components=left))


def resolved(request: Request, bundle: Bundle) -> Request:
    return settings_of(request, bundle).applied_to(request)


def refusal(bundle: Bundle, **keywords: Any) -> str:
    with pytest.raises(RequestError) as caught:
        resolved(Request("a red circle", **keywords), bundle)
    return str(caught.value)


# --- defaults


@pytest.mark.parametrize("given", [None, ""])
def test_a_negative_prompt_that_is_not_given_is_empty(given: str | None, bundle: Bundle) -> None:
    assert resolved(Request("a", negative_prompt=given), bundle).negative_prompt == ""


@pytest.mark.parametrize(
    ("keywords", "expected"),
    [
        ({}, (None, 7.5, 50)),
        ({"image": IMAGE}, (0.3, 7.5, 50)),
        ({"image": IMAGE, "mask_image": MASK}, (0.9999, 4.0, 20)),
        ({"image": IMAGE, "strength": 0.5}, (0.5, 7.5, 50)),
        ({"image": IMAGE, "mask_image": MASK, "guidance_scale": 2.0}, (0.9999, 2.0, 20)),
    ],
)
def test_defaults_depend_on_the_task(
    keywords: dict[str, Any], expected: tuple[float | None, float, int], bundle: Bundle
) -> None:
    family = replace(
        bundle.family,
        image_defaults={"strength": 0.3},
        inpainting_defaults={
            "strength": 0.9999,
            "guidance_scale": 4.0,
            "num_inference_steps": 20,
        },
    )
    manifest = replace(bundle.manifest, family=family, defaults={})
    request = resolved(Request("a", **keywords), replace(bundle, manifest=manifest))
    assert (request.strength, request.guidance_scale, request.num_inference_steps) == expected


def test_the_bundle_s_own_defaults_come_first(bundle: Bundle) -> None:
    manifest = replace(
        bundle.manifest,
        family=replace(bundle.family, inpainting_defaults={"strength": 1.0, "guidance_scale": 4.0}),
        defaults={"guidance_scale": 3.0},
    )
    request = Request("a", image=IMAGE, mask_image=MASK)
    assert resolved(request, replace(bundle, manifest=manifest)).guidance_scale == 3.0


@pytest.mark.parametrize("name", ["prompt_2", "negative_prompt_2"])
def test_a_second_text_needs_a_second_encoder(name: str, bundle: Bundle) -> None:
    first = name.removesuffix("_2")
    assert refusal(bundle, **{name: "a star"}) == (
        f"{name}: this bundle's model has one text encoder, which reads {first}: leave {name} out"
    )
    resolved(request_from("a", {name: ""}), bundle)


def test_sizes_need_a_model_that_takes_them(bundle: Bundle) -> None:
    assert refusal(bundle, original_size=(8, 8)).startswith("original_size: got (8, 8), but")


# --- sizes


@pytest.mark.parametrize(
    ("keywords", "size"),
    [
        ({}, (128, 128)),
        ({"image": sample_image(64, 96)}, (64, 96)),
        ({"image": sample_image(67, 500)}, (64, 496)),
        ({"image": sample_image(1, 1)}, (8, 8)),
        ({"control": {"edges": sample_image(64, 96)}}, (64, 96)),
        ({"control": {"edges": np.zeros((40, 64, 5))}}, (64, 40)),
        ({"image": sample_image(80, 64), "control": {"edges": sample_image(160, 128)}}, (80, 64)),
        ({"image": sample_image(64, 96), "width": 32, "height": 48}, (32, 48)),
        ({"image": sample_image(64, 96), "width": 32, "height": 32, "resize": "pad"}, (32, 32)),
    ],
)
def test_the_size_is_the_first_image_s(
    keywords: dict[str, Any], size: tuple[int, int], bundle: Bundle
) -> None:
    request = resolved(Request("a red circle", **keywords), bundle)
    assert (request.width, request.height) == size


def test_around_a_mask_the_size_is_the_model_s(bundle: Bundle) -> None:
    request = Request(
        "a",
        image=sample_image(400, 300),
        mask_image=mask(400, 300, (8, 8, 24, 16)),
        padding_mask_crop=4,
    )
    settings = settings_of(request, bundle)
    assert (settings.width, settings.height) == (128, 128)
    assert frame_of(request, settings).box == (4, 0, 28, 24)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        (
            {"image": sample_image(8200, 8)},
            "the image has 8200×8 pixels, expected 8192 at most on each side: give height and",
        ),
        (
            {"image": sample_image(64, 96), "width": 64, "height": 64},
            "image: got 64×96 pixels for a result of 64×64: set resize to crop, pad or stretch",
        ),
        (
            {"image": IMAGE, "control": {"edges": sample_image(64, 96)}},
            "control image 'edges': got 64×96 pixels for a result of 128×128: set resize to",
        ),
        (
            {
                "image": IMAGE,
                "mask_image": MASK,
                "padding_mask_crop": 4,
                "control": {"edges": sample_image(64, 64)},
            },
            "control image 'edges': got 64×64 pixels, expected 128×128 like the image, because",
        ),
        (
            {"image": sample_image(1, 4096), "resize": "crop", "width": 64, "height": 64},
            "image: got 1×4096 pixels for a result of 64×64, which would cut away all but "
            "1/4096 of it: use another aspect ratio",
        ),
        (
            {
                "image": sample_image(8, 4096),
                "mask_image": mask(8, 4096, (0, 0, 8, 4096)),
                "padding_mask_crop": 0,
            },
            "padding_mask_crop: got 8×4096 pixels for a result of 128×128, which would cut",
        ),
    ],
)
def test_a_mismatch_is_reported(keywords: dict[str, Any], message: str, bundle: Bundle) -> None:
    assert message in refusal(bundle, **keywords)


# --- strength


@pytest.mark.parametrize(
    ("keywords", "strength"),
    [
        ({}, None),
        ({"image": IMAGE}, 0.8),
        ({"image": IMAGE, "mask_image": MASK}, 1.0),
        ({"image": IMAGE, "strength": 0.3}, 0.3),
        ({"image": IMAGE, "strength": 1}, 1),
    ],
)
def test_strength_is_diffusers_s(
    keywords: dict[str, Any], strength: float | None, bundle: Bundle
) -> None:
    assert resolved(Request("a red circle", **keywords), bundle).strength == strength


@pytest.mark.parametrize("strength", [0, 0.0199, 1e-9])
def test_a_strength_that_leaves_no_step_is_reported(strength: float, bundle: Bundle) -> None:
    message = refusal(bundle, image=IMAGE, strength=strength, num_inference_steps=50)
    assert message == (
        f"strength: got {strength:g}, which runs none of the 50 steps: give at least 0.02, "
        "or more steps"
    )


@pytest.mark.parametrize(
    ("scheduler", "custom", "num_steps"),
    [
        ("euler", {"sigmas": [14.0, 5.0, 1.0, 0.1, 0.0]}, 4),  # the last one ends the last step
        ("euler", {"timesteps": [900, 500, 100]}, 3),
        ("heun", {"timesteps": [900, 500, 100]}, 3),
        ("lcm", {"timesteps": [900, 500, 100]}, 3),
    ],
)
def test_custom_steps_are_counted_by_the_schedule(
    scheduler: str, custom: dict[str, Any], num_steps: int, bundle: Bundle
) -> None:
    request = Request("a", scheduler=scheduler, image=IMAGE, **custom)
    assert resolved(request, bundle).num_inference_steps == num_steps
    job = job_from_request(request, bundle, dict(signatures(bundle)))
    assert not [note for note in job.notes if note.code == "steps_replaced"]
    again = job_from_request(job.request, bundle, dict(signatures(bundle)))
    assert not [note for note in again.notes if note.code == "steps_replaced"]


def signatures(bundle: Bundle) -> Iterator[tuple[str, Signature]]:
    return ((each.name, each.signature) for each in bundle.manifest.components)


def test_an_impossible_schedule_is_refused(bundle: Bundle) -> None:
    with pytest.raises(SamplerError, match="expected a descending list"):
        resolved(Request("a", scheduler="euler", sigmas=[1, 2]), bundle)


@pytest.mark.parametrize("num_steps", [1, 3, 7, 49, 50, 300, 999, 1000])
def test_the_strength_that_is_advised_leaves_a_step(num_steps: int, bundle: Bundle) -> None:
    steps: dict[str, Any] = {"num_inference_steps": num_steps, "scheduler": "euler"}
    message = refusal(bundle, image=IMAGE, strength=0, **steps)
    advised = float(message.partition("at least ")[2].partition(",")[0])
    request = Request("a", image=IMAGE, strength=advised, **steps)
    assert resolved(request, bundle).strength == advised
    assert advised < 1 / num_steps + 0.001 + 1e-9


# --- what a bundle cannot do


def test_a_bundle_that_reads_no_images(bundle: Bundle) -> None:
    assert refusal(without(bundle, "vae_encoder"), image=IMAGE) == (
        "image: this bundle has no vae_encoder, which reads images: export the checkpoint again"
    )
    resolved(Request("a", control={"edges": IMAGE}), without(bundle, "vae_encoder"))


def test_a_bundle_whose_encoder_has_sampled_already(bundle: Bundle) -> None:
    encoder = bundle.component("vae_encoder")
    sampling = Signature(
        encoder.signature.inputs, (spec("latent_sample", "float32", "B", 4, "h", "w"),)
    )
    older = tuple(
        replace(each, signature=sampling) if each is encoder else each
        for each in bundle.manifest.components
    )
    older_bundle = Bundle(bundle.root, replace(bundle.manifest, components=older))
    assert refusal(older_bundle, image=IMAGE) == (
        "image: this bundle's vae_encoder gives latent_sample (an older optimum's), expected "
        "latent_parameters: export the checkpoint again"
    )


@pytest.mark.parametrize("keywords", [{}, {"image": IMAGE}])
def test_an_inpainting_bundle_needs_a_mask(
    keywords: dict[str, Any], bundle: Bundle, tmp_path: Path
) -> None:
    inpainting = write_toy_bundle(tmp_path / "bundle", unet_channels=9)
    message = refusal(Bundle.open(inpainting), **keywords)
    assert message.startswith("this bundle's UNet is made for inpainting: give image and mask_im")


def test_an_unknown_controlnet_is_reported_with_those_that_are_known(bundle: Bundle) -> None:
    assert refusal(bundle, control={"egdes": IMAGE}) == (
        "control: no ControlNet 'egdes', did you mean 'edges'? this bundle has edges"
    )
    assert refusal(bundle, control={"depth": IMAGE}) == (
        "control: no ControlNet 'depth': this bundle has edges"
    )


def test_a_bundle_without_controlnets(bundle: Bundle) -> None:
    lean = without(bundle, "controlnet_edges")
    assert refusal(lean, control={"edges": Control(IMAGE)}) == (
        "control: got 'edges', but this bundle has no ControlNet: add one with `sdrt export "
        f"--controlnet edges=PATH --into {bundle.root}`"
    )


def test_a_bundle_whose_unet_takes_no_residuals(bundle: Bundle) -> None:
    assert refusal(without(bundle, "unet_controlled"), control={"edges": IMAGE}) == (
        "control: this bundle's UNet takes no residuals (optimum exports no such UNet): export "
        "the checkpoint with sdrt"
    )


def test_the_rest_is_the_bundle_s_or_diffusers_s(bundle: Bundle) -> None:
    request = resolved(Request("a red circle"), bundle)
    assert (request.guidance_scale, request.num_inference_steps) == (3.0, 50)
    assert request.seed in range(2**32)
    assert resolved(request, bundle) == request
