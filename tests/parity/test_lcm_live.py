"""A checkpoint of a latent consistency model against diffusers' own pipelines for it."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from diffusers import (
    LatentConsistencyModelImg2ImgPipeline,
    LatentConsistencyModelPipeline,
    StableDiffusionInpaintPipeline,
)

from parity.parity_images import mask, sample_image
from parity.pipeline_harness import (
    CIRCLE,
    DIFFUSERS_WARNINGS,
    STAR,
    Case,
    Theirs,
    assert_same,
    assert_same_images,
    case,
    generated_by_diffusers,
    generated_by_us,
)
from sdrt import Pipeline, Request, SdrtError
from sdrt.bundle.folder import Bundle
from sdrt.families.known import Reader, family_from_configs
from sdrt.files.json_fields import JsonFields
from sdrt_engines import resolve_target

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

IMAGE = sample_image(32, 32)


@pytest.fixture(scope="module")
def pipe(tiny_bundle: Callable[[str], Path], tiny_checkpoint: Callable[[str], Path]) -> Pipeline:
    """The recipe's bundle, as if its checkpoint had been saved by diffusers' LCM pipeline."""
    bundle = Bundle.open(tiny_bundle("lcm"))
    family = family_from_configs(reader_of(tiny_checkpoint("lcm")))
    manifest = replace(bundle.manifest, family=family)
    return Pipeline(Bundle(bundle.root, manifest), resolve_target("cpu", num_threads=1))


def reader_of(checkpoint: Path) -> Reader:
    def read(part: str) -> tuple[str, JsonFields]:
        if part == "model_index":
            return part, JsonFields({"_class_name": "LatentConsistencyModelPipeline"})
        if part == "scheduler":
            return part, JsonFields({"_class_name": "LCMScheduler"})
        config = json.loads((checkpoint / part / "config.json").read_text())
        return part, JsonFields(config)

    return read


TEXT_TO_IMAGE = [
    case("lcm", num_inference_steps=4),  # with each one's default guidance
    case("lcm", num_inference_steps=8, prompt=[CIRCLE, STAR], guidance_scale=1.0),
]
IMAGE_TO_IMAGE = [
    *(
        case("lcm", image=IMAGE, num_inference_steps=num_steps, strength=strength)
        for num_steps, strength in [(4, 0.8), (8, 0.5), (4, 0.2), (1, 0.02), (3, 0.58), (4, 1.0)]
    ),
]


@pytest.mark.parametrize("case", TEXT_TO_IMAGE, ids=str)
def test_text_to_image(case: Case, pipe: Pipeline, theirs: Theirs) -> None:
    kind = theirs("lcm", case.scheduler, LatentConsistencyModelPipeline)
    assert_same(generated_by_us(pipe, case), generated_by_diffusers(kind, case))


@pytest.mark.parametrize("case", IMAGE_TO_IMAGE, ids=str)
def test_image_to_image(case: Case, pipe: Pipeline, theirs: Theirs) -> None:
    kind = theirs("lcm", case.scheduler, LatentConsistencyModelImg2ImgPipeline)
    assert_same(generated_by_us(pipe, case), generated_by_diffusers(kind, case))


def test_custom_timesteps_are_left_out(pipe: Pipeline, theirs: Theirs) -> None:
    """diffusers' last latents are noised again here, which its image does not show."""
    custom = case("lcm", image=IMAGE, timesteps=[799, 599, 399, 199], strength=0.5)
    kind = theirs("lcm", kind=LatentConsistencyModelImg2ImgPipeline)
    ours, expected = generated_by_us(pipe, custom), generated_by_diffusers(kind, custom)
    assert [*ours.timesteps] == [*expected.timesteps] == [399, 199]
    assert_same_images(ours.images, expected.images)


def test_inpainting_leaves_out_steps(pipe: Pipeline, theirs: Theirs) -> None:
    sizes: dict[str, Any] = {"width": 32, "height": 32, "guidance_scale": 8.5}
    inpainting = case("lcm", image=IMAGE, mask_image=mask(32, 32), strength=0.5, **sizes)
    kind = theirs("lcm", kind=StableDiffusionInpaintPipeline)
    assert_same(generated_by_us(pipe, inpainting), generated_by_diffusers(kind, inpainting))


@pytest.mark.parametrize(
    "kind", [LatentConsistencyModelPipeline, LatentConsistencyModelImg2ImgPipeline]
)
@pytest.mark.parametrize("name", ["num_inference_steps", "guidance_scale"])
def test_defaults(name: str, kind: type, pipe: Pipeline) -> None:
    default = inspect.signature(kind.__call__).parameters[name].default
    assert getattr(pipe.resolve(Request(CIRCLE)), name) == default


@pytest.mark.parametrize(("num_steps", "strength"), [(8, 0.1), (1, 0.01), (1, 0)])
def test_too_little_strength_is_refused(num_steps: int, strength: float, pipe: Pipeline) -> None:
    request = Request(CIRCLE, image=IMAGE, num_inference_steps=num_steps, strength=strength)
    with pytest.raises(
        SdrtError, match=r"strength: got .*, which leaves .* of the 50 steps of dis"
    ):
        pipe.resolve(request)


def test_other_schedulers_leave_out_steps(pipe: Pipeline) -> None:
    stream = pipe.stream(CIRCLE, image=IMAGE, num_inference_steps=4, strength=0.5, scheduler="ddim")
    assert len(list(stream)) == 2
