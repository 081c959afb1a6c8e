"""The tables of checkpoints' contents: every row has its torch half, every family its rows.

An invented kind with two text encoders shows that another family needs rows and no other code.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt.files.json_fields import JsonFields
from sdrt_export.checkpoints import parts
from sdrt_export.checkpoints.checkpoint import weights_from_names
from sdrt_export.checkpoints.compatibility import family_of_folder
from sdrt_export.checkpoints.parts import (
    KINDS,
    OTHER_VAE,
    REFINER,
    STABLE_DIFFUSION,
    STABLE_DIFFUSION_XL,
    TEXT_ENCODER,
    TINY_VAE,
    UNET,
    VAE,
    kind_of_family,
    kind_of_index,
)
from sdrt_export.checkpoints.weights_files import Weights, file_names
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.loading import MODELS

pytestmark = pytest.mark.export

SECOND = replace(
    TEXT_ENCODER, title="second text encoder", folder="text_encoder_2", tokenizer="tokenizer_2"
)
INVENTED = replace(
    STABLE_DIFFUSION,
    title="Inventions",
    pipelines=("StableDiffusionInvented",),
    families=("invented",),
    parts=(TEXT_ENCODER, SECOND, replace(UNET, absent=()), VAE),
)


def test_torch_can_read_every_row_and_nothing_else() -> None:
    rows = {row for kind in KINDS for row in (*kind.parts, kind.controlnet)}
    assert MODELS.keys() == rows - {None} | {OTHER_VAE, TINY_VAE}


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
    with pytest.raises(CheckpointError, match="family 'cascade': this sdrt exports"):
        kind_of_family("cascade")


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
    assert kind_of_index(index(pipeline)) is STABLE_DIFFUSION


def index(class_name: str, **parts: object) -> JsonFields:
    return JsonFields({"_class_name": class_name, **parts})


BOTH = {name: ["transformers", "CLIPTextModel"] for name in ("text_encoder", "text_encoder_2")}


@pytest.mark.parametrize("task", ["", "Img2Img", "Inpaint", "ControlNet"])
@pytest.mark.parametrize("maker", ["", "ORT"])
def test_pipelines_of_sdxl(maker: str, task: str) -> None:
    pipeline = f"{maker}StableDiffusionXL{task}Pipeline"
    assert kind_of_index(index(pipeline, **BOTH)) is STABLE_DIFFUSION_XL


@pytest.mark.parametrize("first", [{}, {"text_encoder": [None, None]}, {"text_encoder": None}])
def test_the_refiner_lacks_the_first_text_encoder(first: dict[str, object]) -> None:
    second = {"text_encoder_2": BOTH["text_encoder_2"]}
    assert kind_of_index(index("StableDiffusionXLImg2ImgPipeline", **second, **first)) is REFINER


def test_paths_in_a_checkpoint() -> None:
    kind = kind_of_family("stable-diffusion-2")
    assert kind.controlnet is not None
    assert [(part.config, part.weights) for part in (*kind.parts, kind.controlnet)] == [
        ("text_encoder/config.json", "text_encoder/model"),
        ("unet/config.json", "unet/diffusion_pytorch_model"),
        ("vae/config.json", "vae/diffusion_pytorch_model"),
        ("config.json", "diffusion_pytorch_model"),
    ]


# --- an invented kind


@pytest.fixture
def folder(checkpoint: Path, tmp_path: Path) -> Path:
    """A checkpoint with its text encoder twice, and a UNet that reads both."""
    folder = shutil.copytree(checkpoint, tmp_path / "checkpoint")
    for name in ("text_encoder", "tokenizer"):
        shutil.copytree(folder / name, folder / f"{name}_2")
    edit(folder / "unet/config.json", cross_attention_dim=16, addition_embed_type="text_time")
    return folder


def edit(path: Path, **changes: object) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_longest_name_of_a_pipeline_decides(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "KINDS", (STABLE_DIFFUSION, INVENTED))
    assert kind_of_index(index("StableDiffusionInventedPipeline", **BOTH)) is INVENTED
    assert kind_of_index(index("StableDiffusionPipeline")) is STABLE_DIFFUSION
    assert kind_of_family("invented") is INVENTED


def test_its_parts_are_found_and_fit(folder: Path) -> None:
    weights = weights_from_names(file_names(folder), "source", INVENTED)
    assert weights[SECOND] == Weights(None, ("text_encoder_2/model.safetensors",))
    assert family_of_folder(folder, "source", INVENTED).latents.channels == 4


def test_a_part_of_its_own_is_missed(folder: Path) -> None:
    shutil.rmtree(folder / "tokenizer_2")
    (folder / "text_encoder_2/config.json").unlink()
    with pytest.raises(CheckpointError) as caught:
        weights_from_names(file_names(folder), "source", INVENTED)
    missing = "text_encoder_2/config.json, tokenizer_2/vocab.json, tokenizer_2/merges.txt missing"
    assert f"'source' is not a complete checkpoint: {missing}" in str(caught.value)


@pytest.mark.parametrize(
    ("path", "changes", "complaint"),
    [
        (
            "unet/config.json",
            {"cross_attention_dim": 8},
            "its text encoder and second text encoder give vectors of 16, its UNet expects 8",
        ),
        (
            "text_encoder_2/config.json",
            {"max_position_embeddings": 64},
            "its tokenizer_2 produces 77 tokens, its second text encoder expects 64",
        ),
        (
            "text_encoder_2/config.json",
            {"model_type": "t5"},
            "its second text encoder is t5, expected clip_text_model",
        ),
    ],
)
def test_parts_of_its_own_that_do_not_fit_are_reported(
    path: str, changes: dict[str, object], complaint: str, folder: Path
) -> None:
    edit(folder / path, **changes)
    with pytest.raises(CheckpointError) as caught:
        family_of_folder(folder, "source", INVENTED)
    assert str(caught.value).startswith(f"'source' cannot be exported: {complaint}")


def test_options_of_another_kind_are_reported(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="'text_time', which Stable Diffusion 1 and 2 lack"):
        family_of_folder(folder, "source", STABLE_DIFFUSION)
