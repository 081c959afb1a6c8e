"""Models distilled to a few steps, with the settings that their publishers' cards give."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
from diffusers import (
    EulerDiscreteScheduler,
    StableDiffusionXLImg2ImgPipeline,
)

from parity.parity_images import sample_image
from parity.pipeline_harness import (
    CIRCLE,
    DIFFUSERS_WARNINGS,
    STAR,
    Case,
    Ours,
    Theirs,
    assert_same,
    case,
    generated_by_diffusers,
    generated_by_us,
)
from sdrt import Bundle, Pipeline, Request
from sdrt.bundle.file_records import record_file
from sdrt.bundle.manifest import write_manifest
from sdrt.bundle.optimum_folder import configs_of
from sdrt.families.known import family_from_configs

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

UNGUIDED: dict[str, Any] = {"guidance_scale": 0.0}
TWO: dict[str, Any] = {"prompt": [CIRCLE, STAR], "width": 48, "height": 32}
SCHEDULER = "scheduler/scheduler_config.json"


def check(theirs: Theirs, pipe: Pipeline, case: Case, kind: Any = None) -> None:
    expected = generated_by_diffusers(theirs(case.recipe, case.scheduler, kind), case)
    assert_same(generated_by_us(pipe, case), expected)


@pytest.mark.parametrize("num_steps", [1, 2, 4])
@pytest.mark.parametrize("recipe", ["xl_turbo", pytest.param("sd2_turbo", marks=pytest.mark.full)])
def test_turbo(recipe: str, num_steps: int, ours: Ours, theirs: Theirs) -> None:
    """https://huggingface.co/stabilityai/sdxl-turbo and sd-turbo: 1 to 4 steps, guidance 0, the
    scheduler as it is."""
    check(theirs, ours(recipe), case(recipe, num_inference_steps=num_steps))


def test_turbo_from_an_image(ours: Ours, theirs: Theirs) -> None:
    """The same card: 2 steps at strength 0.5."""
    image = sample_image(32, 32)
    turbo = case("xl_turbo", image=image, num_inference_steps=2, strength=0.5)
    check(theirs, ours("xl_turbo"), turbo, StableDiffusionXLImg2ImgPipeline)


def test_lcm(ours: Ours, theirs: Theirs) -> None:
    """https://huggingface.co/latent-consistency/lcm-sdxl: 4 steps, guidance 8."""
    assert ours("xl_lcm").resolve(Request(CIRCLE)).num_inference_steps == 4
    check(theirs, ours("xl_lcm"), case("xl_lcm", num_inference_steps=4, **TWO))


@pytest.mark.parametrize("num_steps", [2, 4, 8])
def test_lightning_in_a_folder_with_another_spacing(
    num_steps: int, ours: Ours, theirs: Theirs
) -> None:
    """https://huggingface.co/ByteDance/SDXL-Lightning: Euler with trailing timesteps, guidance 0.

    The card sets the spacing in Python; folders on the Hub have the spacing of SDXL.
    """
    lightning = case("xl", "euler_trailing", num_inference_steps=num_steps, **UNGUIDED, **TWO)
    check(theirs, ours("xl"), lightning)


@pytest.mark.parametrize(
    ("prediction_type", "num_steps"), [("epsilon", 2), ("epsilon", 4), ("sample", 1)]
)
def test_lightning_as_it_is_published(
    prediction_type: str,
    num_steps: int,
    tiny_bundle: Callable[[str], Path],
    theirs: Theirs,
    tmp_path: Path,
) -> None:
    """The same card: the model for one step predicts the image."""
    options = {"timestep_spacing": "trailing", "prediction_type": prediction_type}
    root = with_scheduler(copytree(tiny_bundle("xl"), tmp_path / "lightning"), **options)
    scheduler = EulerDiscreteScheduler.from_pretrained(root, subfolder="scheduler")
    lightning = case("xl", num_inference_steps=num_steps).together_with({}, UNGUIDED)
    pipeline = theirs("xl")
    pipeline.scheduler = scheduler
    expected = generated_by_diffusers(pipeline, lightning)
    with Pipeline.open(root, "cpu", num_threads=1) as pipe:
        assert_same(generated_by_us(pipe, lightning), expected)


def with_scheduler(bundle: Path, **options: Any) -> Path:
    """The bundle, as if its checkpoint had these options of the scheduler."""
    path = bundle / SCHEDULER
    path.write_text(json.dumps(json.loads(path.read_text()) | options))
    manifest = Bundle.open(bundle).manifest
    records = [file for file in manifest.files if file.path != SCHEDULER]
    family = family_from_configs(configs_of(bundle, vae="vae_decoder"))
    files = (*records, record_file(bundle, SCHEDULER))
    write_manifest(bundle, replace(manifest, family=family, files=files))
    return bundle


@pytest.mark.parametrize("recipe", ["xl", "classic"])
@pytest.mark.parametrize(
    ("scheduler", "options"),
    [
        *(("ddim_trailing", {"num_inference_steps": num_steps}) for num_steps in (2, 4, 8)),
        ("lcm", {"timesteps": [800]}),
        *(("tcd", {"num_inference_steps": n, "eta": eta}) for n, eta in [(1, 1.0), (4, 0.3)]),
    ],
)
def test_hyper_and_tcd(
    scheduler: str, options: dict[str, Any], recipe: str, ours: Ours, theirs: Theirs
) -> None:
    """https://huggingface.co/ByteDance/Hyper-SD: guidance 0; DDIM with trailing timesteps; the
    UNet for one step with LCM's scheduler from timestep 800; the LoRA for any number of steps with
    TCD and eta 1. https://huggingface.co/h1t/TCD-SDXL-LoRA: TCD, 4 steps, eta 0.3.
    """
    check(theirs, ours(recipe), case(recipe, scheduler, **options, **UNGUIDED, **TWO))
