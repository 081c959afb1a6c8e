"""The tables of what checkpoints hold: every row has its torch half, every family its rows."""

from __future__ import annotations

import pytest

from sdrt_export.checkpoints.parts import KINDS, kind_of_family, kind_of_pipeline
from sdrt_export.networks.loading import MODELS

pytestmark = pytest.mark.export


def test_torch_can_read_every_row_and_nothing_else() -> None:
    rows = {row for kind in KINDS for row in (*kind.parts, kind.controlnet)}
    assert MODELS.keys() == rows


def test_networks_have_names_of_their_own() -> None:
    for kind in KINDS:
        models = [MODELS[part] for part in kind.parts]
        names = [n.name for model in models for variants in model.networks for n in variants]
        assert len({*names}) == len(names)


def test_a_family_is_of_one_kind() -> None:
    families = [family for kind in KINDS for family in kind.families]
    assert len({*families}) == len(families)
    assert [kind_of_family(family).title for family in families] == [
        kind.title for kind in KINDS for _ in kind.families
    ]


@pytest.mark.parametrize(
    "pipeline",
    [
        "StableDiffusionPipeline",
        "StableDiffusionImg2ImgPipeline",
        "LatentConsistencyModelPipeline",
        "OnnxStableDiffusionPipeline",
    ],
)
def test_pipelines_of_versions_1_and_2(pipeline: str) -> None:
    assert kind_of_pipeline(pipeline).title == "Stable Diffusion 1 and 2"


def test_paths_in_a_checkpoint() -> None:
    kind = kind_of_family("stable-diffusion-2")
    assert [(part.config, part.weights) for part in (*kind.parts, kind.controlnet)] == [
        ("text_encoder/config.json", "text_encoder/model"),
        ("unet/config.json", "unet/diffusion_pytorch_model"),
        ("vae/config.json", "vae/diffusion_pytorch_model"),
        ("config.json", "diffusion_pytorch_model"),
    ]
