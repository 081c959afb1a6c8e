"""Other VAEs against diffusers, whose pipelines take them as their part `vae`."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers import AutoencoderKL, AutoencoderTiny

from parity.parity_images import mask, sample_image
from parity.pipeline_harness import (
    CIRCLE,
    DIFFUSERS_WARNINGS,
    STAR,
    Case,
    Theirs,
    assert_same,
    case,
    generated_by_diffusers,
    generated_by_us,
)
from sdrt import Pipeline
from sdrt_export.adding import add_to_bundle
from sdrt_export.exporting import export_checkpoint
from support.other_vaes import other_vae, tiny_vae

pytestmark = [pytest.mark.parity, *DIFFUSERS_WARNINGS]

Folders = Callable[[str], Path]
LEVELS = {"deep": 4}  # of a recipe's VAE; others have 2
KINDS = {
    ("classic", "image"): "StableDiffusionImg2ImgPipeline",
    ("classic", "mask_image"): "StableDiffusionInpaintPipeline",
    ("inpaint", "mask_image"): "StableDiffusionInpaintPipeline",
    ("xl", "image"): "StableDiffusionXLImg2ImgPipeline",
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Folders:
    """The tiny VAE for a recipe; that of "deep" has TAESD's published configuration."""
    root = tmp_path_factory.mktemp("vaes")

    @cache
    def folder_of(recipe: str) -> Path:
        if recipe == "deep":
            return tiny_vae(root / recipe, num_levels=4, width=64)
        return tiny_vae(root / recipe)

    return folder_of


@pytest.fixture(scope="module")
def ours(
    tiny_bundle: Folders, tiny: Folders, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], Pipeline]:
    """A recipe's bundle to which the tiny VAE was added."""
    root = tmp_path_factory.mktemp("bundles")

    @cache
    def opened(recipe: str) -> Pipeline:
        bundle = shutil.copytree(tiny_bundle(recipe), root / recipe)
        add_to_bundle(bundle, tiny_vae=tiny(recipe))
        return Pipeline.open(bundle, "cpu", num_threads=1)

    return opened


def image_case(recipe: str, scheduler: str | None, masked: bool = False, **options: Any) -> Case:
    images = {"image": sample_image(32, 32)} | ({"mask_image": mask(32, 32)} if masked else {})
    sizes = {"width": 32, "height": 32} if masked else {}
    return case(recipe, scheduler, num_inference_steps=6, **images, **sizes, **options)


CASES = [
    case("classic"),
    case("classic", "euler_a", prompt=[CIRCLE, STAR], width=48, height=24),
    pytest.param(case("deep", width=72, height=40), marks=pytest.mark.full),  # TAESD's own size
    case("xl"),
    # diffusers draws no noise for latents without a distribution: later draws would differ
    image_case("classic", "euler_a", strength=0.6, num_images_per_prompt=2),
    image_case("classic", "euler_a", masked=True, strength=0.6),
    image_case("inpaint", "euler_a", masked=True, strength=0.6, num_images_per_prompt=2),
    image_case("xl", None, strength=0.5),
]


def kind_of(case: Case) -> Any:
    given = "mask_image" if "mask_image" in case.options else "image"
    return getattr(diffusers, KINDS[case.recipe, given]) if given in case.options else None


@pytest.mark.parametrize("case", CASES, ids=str)
def test_images_of_a_tiny_vae(
    case: Case, ours: Callable[[str], Pipeline], tiny: Folders, theirs: Theirs
) -> None:
    vae = AutoencoderTiny.from_pretrained(tiny(case.recipe))
    pipe = theirs(case.recipe, case.scheduler, kind_of(case), vae=vae)
    case = case.together_with({"vae": "tiny"}, {})
    assert_same(generated_by_us(ours(case.recipe), case), generated_by_diffusers(pipe, case))


def test_images_of_another_vae(tiny_checkpoint: Folders, theirs: Theirs, tmp_path: Path) -> None:
    recipe = "sd2_turbo"
    vae = other_vae(recipe, tmp_path / "vae", scaling_factor=0.3, force_upcast=False)
    bundle = export_checkpoint(tiny_checkpoint(recipe), tmp_path / "bundle", vae=vae)
    pipe = theirs(recipe, vae=AutoencoderKL.from_pretrained(vae))
    with Pipeline.open(bundle, "cpu", num_threads=1) as ours:
        assert ours.bundle.family.latents.scaling_factor == 0.3
        for each in (case(recipe), case(recipe, image=sample_image(32, 32), strength=0.5)):
            kind = diffusers.StableDiffusionImg2ImgPipeline if "image" in each.options else None
            pipe = theirs(recipe, kind=kind, vae=AutoencoderKL.from_pretrained(vae))
            assert_same(generated_by_us(ours, each), generated_by_diffusers(pipe, each))
