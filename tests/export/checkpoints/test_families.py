"""Checkpoints of every family: recognised, or refused with what was found and what is supported."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from checkpoints import tiny_controlnet
from recipes import REFINERS, SD2, XL
from sdrt.families.known import OTHER_PIPELINES
from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.checkpoints.controlnet import controlnets_from_sources
from sdrt_export.checkpoints.controlnet_compatibility import host_of_folder
from sdrt_export.errors import CheckpointError

pytestmark = [
    pytest.mark.export,
    # diffusers' Euler, with NumPy 2
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
]

Checkpoints = Callable[[str], Path]  # by recipe


@pytest.fixture
def copied(tiny_checkpoint: Checkpoints, tmp_path: Path) -> Checkpoints:
    """A recipe's checkpoint, to change."""
    return lambda recipe: shutil.copytree(tiny_checkpoint(recipe), tmp_path / recipe)


def edit(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def refusal(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        checkpoint_from_source(folder)
    message = str(caught.value)
    assert "\n" not in message
    return message


# --- what is recognised

FAMILIES = {
    **dict.fromkeys(SD2, "stable-diffusion-2"),
    **dict.fromkeys(XL, "stable-diffusion-xl"),
    **dict.fromkeys(REFINERS, "stable-diffusion-xl-refiner"),
}


@pytest.mark.parametrize(("recipe", "family"), FAMILIES.items())
def test_every_family_is_recognised(recipe: str, family: str, tiny_checkpoint: Checkpoints) -> None:
    checkpoint = checkpoint_from_source(tiny_checkpoint(recipe))
    assert checkpoint.family.name == family
    assert family in checkpoint.kind.families


@pytest.mark.parametrize(
    "pipeline",
    [
        "StableDiffusionXLImg2ImgPipeline",
        "StableDiffusionXLInpaintPipeline",
        "StableDiffusionXLControlNetPipeline",
    ],
)
def test_sdxl_for_another_task(pipeline: str, copied: Checkpoints) -> None:
    folder = copied("xl")
    edit(folder / "model_index.json", _class_name=pipeline)
    assert checkpoint_from_source(folder).family.name == "stable-diffusion-xl"


def facts(checkpoint: Checkpoint) -> tuple[str, str, int]:
    family = checkpoint.family
    channels, guidance = family.denoiser.extra_channels, family.denoiser.guidance
    return channels, guidance, len(family.text.encoders)


def test_what_differs_within_a_family(tiny_checkpoint: Checkpoints) -> None:
    read = {name: facts(checkpoint_from_source(tiny_checkpoint(name))) for name in FAMILIES}
    assert read["xl"] == ("none", "classifier-free", 2)
    assert read["xl_inpaint"] == ("mask", "classifier-free", 2)
    assert read["xl_lcm"] == ("none", "embedded", 2)
    assert read["sd2_inpaint"] == ("mask", "classifier-free", 1)
    assert read["refiner"] == ("none", "classifier-free", 1)


# --- what is not supported: a row for each


@dataclass(frozen=True)
class Foreign:
    """A checkpoint that another program runs, as changes of a tiny one."""

    found: str  # in the message
    index: dict[str, Any] = field(default_factory=dict)
    configs: dict[str, dict[str, Any]] = field(default_factory=dict)  # by path
    recipe: str = "classic"


def pipeline(class_name: str, meaning: str = "", recipe: str = "classic") -> Foreign:
    found = f"_class_name: got '{class_name}'" + (f" ({meaning})" if meaning else "")
    return Foreign(f"{found}, expected a pipeline of", {"_class_name": class_name}, recipe=recipe)


UNET, SCHEDULER = "unet/config.json", "scheduler/scheduler_config.json"
FOREIGN = {
    "SD3": pipeline("StableDiffusion3Pipeline"),
    "Flux": pipeline("FluxPipeline"),
    "SANA": pipeline("SanaPipeline"),
    "PixArt": pipeline("PixArtSigmaPipeline"),
    "Kandinsky": pipeline("KandinskyV22Pipeline"),
    "SVD": pipeline("StableVideoDiffusionPipeline"),
    "unCLIP": pipeline("StableUnCLIPImg2ImgPipeline"),
    "Cascade": pipeline("StableCascadeDecoderPipeline"),
    "AnimateDiff": pipeline("AnimateDiffPipeline"),
    "IF": pipeline("IFPipeline"),
    "Kolors": pipeline("KolorsPipeline", recipe="xl"),
    "upscaler": pipeline("StableDiffusionUpscalePipeline", "an upscaler"),
    "latent upscaler": pipeline("StableDiffusionLatentUpscalePipeline", "an upscaler"),
    "InstructPix2Pix": pipeline(
        "StableDiffusionInstructPix2PixPipeline", "edits images by an instruction"
    ),
    "InstructPix2Pix XL": pipeline(
        "StableDiffusionXLInstructPix2PixPipeline", "edits images by an instruction", "xl"
    ),
    "Depth2Img": pipeline("StableDiffusionDepth2ImgPipeline", "conditioned by a depth map"),
    "GLIGEN": pipeline("StableDiffusionGLIGENPipeline", "conditioned by boxes"),
    "LDM3D": pipeline("StableDiffusionLDM3DPipeline", "also generates depth"),
    "variations": pipeline(
        "StableDiffusionImageVariationPipeline", "conditioned by an image instead of a prompt"
    ),
    "T2I-Adapter": pipeline(
        "StableDiffusionXLAdapterPipeline", "conditioned by a T2I-Adapter", "xl"
    ),
    "PAG": pipeline("StableDiffusionXLPAGPipeline", "another way of guidance", "xl"),
    "8 channels": Foreign(
        "in_channels: got 8, expected 4, or 9 for inpainting", configs={UNET: {"in_channels": 8}}
    ),
    "IP-Adapter": Foreign(
        "its UNet has encoder_hid_dim_type='ip_image_proj', which Stable Diffusion 1 and 2 lack: "
        "unload the IP-Adapter",
        configs={UNET: {"encoder_hid_dim_type": "ip_image_proj"}},
    ),
    "IP-Adapter XL": Foreign(
        "its UNet has encoder_hid_dim_type='ip_image_proj', which Stable Diffusion XL models lack: "
        "unload the IP-Adapter",
        configs={UNET: {"encoder_hid_dim_type": "ip_image_proj"}},
        recipe="xl",
    ),
    "classes": Foreign(
        "its UNet has num_class_embeds=1000, which Stable Diffusion 1 and 2 lack: it is an "
        "upscaler",
        configs={UNET: {"num_class_embeds": 1000}},
    ),
    "projected classes": Foreign(
        "its UNet has class_embed_type='projection', which Stable Diffusion 1 and 2 lack: it is an "
        "upscaler or an unCLIP model",
        configs={UNET: {"class_embed_type": "projection"}},
    ),
    "Playground 2.5": Foreign(
        "its scheduler is EDMDPMSolverMultistepScheduler, which sdrt does not run",
        configs={SCHEDULER: {"_class_name": "EDMDPMSolverMultistepScheduler"}},
        recipe="xl",
    ),
    "CosXL": Foreign(
        "its scheduler is EDMEulerScheduler, which sdrt does not run",
        configs={SCHEDULER: {"_class_name": "EDMEulerScheduler"}},
        recipe="xl",
    ),
    "Kolors's encoder": Foreign(
        "its text encoder is chatglm, expected clip_text_model",
        configs={"text_encoder/config.json": {"model_type": "chatglm"}},
        recipe="xl",
    ),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_what_is_not_supported_is_refused(name: str, copied: Checkpoints) -> None:
    foreign = FOREIGN[name]
    folder = copied(foreign.recipe)
    edit(folder / "model_index.json", **foreign.index)
    for path, changes in foreign.configs.items():
        edit(folder / path, **changes)
    message = refusal(folder)
    assert foreign.found in message
    assert message.startswith(f"'{folder}' cannot be exported: ")


def test_every_other_pipeline_has_a_meaning(copied: Checkpoints) -> None:
    folder = copied("classic")
    for word, meaning in OTHER_PIPELINES.items():
        edit(folder / "model_index.json", _class_name=f"StableDiffusion{word}Pipeline")
        assert f"({meaning}), expected a pipeline of Stable Diffusion 1, 2 or XL" in refusal(folder)


# --- parts that do not fit


@pytest.mark.parametrize(
    ("recipe", "path", "changes", "complaint"),
    [
        (
            "xl",
            UNET,
            {"addition_embed_type": None},
            "its UNet has addition_embed_type=None, expected 'text_time' as in Stable Diffusion XL "
            "models",
        ),
        (
            "xl",
            UNET,
            {"projection_class_embeddings_input_dim": 30},
            "its second text encoder gives a pooled vector of 10 (projection_dim), and 6 numbers "
            "about the image of 4 each (addition_time_embed_dim) make 34, its UNet expects 30 "
            "(projection_class_embeddings_input_dim): take both from one checkpoint",
        ),
        (
            "xl",
            UNET,
            {"addition_time_embed_dim": None},
            "addition_time_embed_dim: got null, expected an integer",
        ),
        (
            "xl",
            UNET,
            {"cross_attention_dim": 12},
            "its text encoder and second text encoder give vectors of 20, its UNet expects 12",
        ),
        (
            "xl",
            "text_encoder_2/config.json",
            {"architectures": ["CLIPTextModel"]},
            "its second text encoder is ['CLIPTextModel'], expected "
            "['CLIPTextModelWithProjection']",
        ),
        (
            "xl",
            "text_encoder_2/config.json",
            {"projection_dim": 11},
            "make 35, its UNet expects 34",
        ),
        (
            "xl",
            "text_encoder_2/config.json",
            {"projection_dim": -1},
            "projection_dim: got -1, expected a whole number",
        ),
        (
            "xl",
            "model_index.json",
            {"requires_aesthetics_score": True},
            "its model_index.json has requires_aesthetics_score=True, but its UNet takes a target "
            "size: set it to false",
        ),
        (
            "refiner",
            "model_index.json",
            {"requires_aesthetics_score": False},
            "its model_index.json has requires_aesthetics_score=False, but its UNet takes an "
            "aesthetic score: set it to true",
        ),
        (
            "refiner",
            UNET,
            {"projection_class_embeddings_input_dim": 36},
            "and 5 numbers about the image of 4 each (addition_time_embed_dim) make 32, its UNet "
            "expects 36",
        ),
        ("refiner", UNET, {"cross_attention_dim": 20}, "gives vectors of 12, its UNet expects 20"),
        (
            "classic",
            "model_index.json",
            {"_class_name": "StableDiffusionXLPipeline"},
            "is not a complete checkpoint: text_encoder_2/config.json, tokenizer_2/vocab.json",
        ),
        (
            "xl",
            "model_index.json",
            {"_class_name": "StableDiffusionPipeline"},
            "its UNet has addition_embed_type='text_time', which Stable Diffusion 1 and 2 lack",
        ),
    ],
)
def test_parts_that_do_not_fit_are_reported(
    recipe: str, path: str, changes: dict[str, Any], complaint: str, copied: Checkpoints
) -> None:
    folder = copied(recipe)
    edit(folder / path, **changes)
    if changes.get("_class_name") == "StableDiffusionXLPipeline":
        edit(folder / path, text_encoder_2=["transformers", "CLIPTextModelWithProjection"])
    assert complaint in refusal(folder)


@pytest.mark.parametrize(
    ("recipe", "removed", "missing"),
    [
        ("xl", "unet", "unet/config.json, unet/diffusion_pytorch_model.safetensors missing"),
        ("xl", "tokenizer_2", "tokenizer_2/vocab.json, tokenizer_2/merges.txt missing"),
        (
            "xl",
            "text_encoder_2",
            "text_encoder_2/config.json, text_encoder_2/model.safetensors missing",
        ),
        ("xl", "text_encoder", "text_encoder/config.json, text_encoder/model.safetensors missing"),
        ("refiner", "unet", "unet/config.json, unet/diffusion_pytorch_model.safetensors missing"),
        ("refiner", "tokenizer_2", "tokenizer_2/vocab.json, tokenizer_2/merges.txt missing"),
    ],
)
def test_a_missing_part_is_reported(
    recipe: str, removed: str, missing: str, copied: Checkpoints
) -> None:
    folder = copied(recipe)
    shutil.rmtree(folder / removed)
    assert f"not a complete checkpoint: {missing}, found " in refusal(folder)


def test_weights_of_another_model_are_reported(copied: Checkpoints, tmp_path: Path) -> None:
    """`CLIPTextModel` has no projection, and an older configuration does not name its class."""
    from sdrt_export.exporting import export_checkpoint

    folder = copied("xl")
    config = json.loads((folder / "text_encoder_2/config.json").read_text())
    del config["architectures"]
    (folder / "text_encoder_2/config.json").write_text(json.dumps(config))
    remove_tensor(folder / "text_encoder_2/model.safetensors", "text_projection.weight")
    with pytest.raises(CheckpointError, match=r"the first is text_projection\.weight"):
        export_checkpoint(folder, tmp_path / "bundle")


def remove_tensor(path: Path, name: str) -> None:
    from safetensors.torch import load_file, save_file

    tensors = load_file(path)
    del tensors[name]
    save_file(tensors, path, metadata={"format": "pt"})


# --- ControlNets


@pytest.mark.parametrize(
    ("host", "net", "complaint"),
    [
        (
            "xl",
            "classic",
            "it has addition_embed_type=None, expected 'text_time' as in Stable",
        ),
        ("classic", "xl", "it has addition_embed_type='text_time', which Stable Diffusion 1 and 2"),
        ("xl", "xl_turbo", "it takes text vectors of 16, the UNet of 20 (cross_attention_dim)"),
        ("sd2_odd", "classic", "it takes text vectors of 8, the UNet of 1024"),
        ("xl_deep", "xl_odd", "it takes text vectors of 22, the UNet of 14"),
        (
            "refiner",
            "xl",
            "refiners of Stable Diffusion XL take no ControlNets: export them with the base model",
        ),
    ],
)
def test_controlnets_of_another_unet_are_refused(
    host: str, net: str, complaint: str, tiny_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    folder = tiny_checkpoint(host)
    made = tiny_controlnet(net, tmp_path / "net")
    with pytest.raises(CheckpointError) as caught:
        controlnets_from_sources({"edges": made}, host_of_folder(folder, "host"))
    assert complaint in str(caught.value)


def test_a_controlnet_for_another_vector_is_refused(
    tiny_checkpoint: Checkpoints, tmp_path: Path
) -> None:
    made = tiny_controlnet("xl", tmp_path / "net")
    edit(made / "config.json", projection_class_embeddings_input_dim=99)
    with pytest.raises(CheckpointError) as caught:
        controlnets_from_sources({"edges": made}, host_of_folder(tiny_checkpoint("xl"), "host"))
    assert (
        "it takes pooled text and sizes in a vector of 99, the UNet of 34 "
        "(projection_class_embeddings_input_dim): it is made for another UNet" in str(caught.value)
    )
