"""Checkpoints, ControlNets and VAEs at full size, by their headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from sdrt.adapters.found import (
    CheckpointFile,
    ControlNetFile,
    EncoderKeys,
    FamilyName,
    ForeignFile,
    Found,
    TinyVaeFile,
    VaeFile,
)
from sdrt.adapters.recognition import recognised
from sdrt.adapters.safetensors import SafetensorsFile
from sdrt.errors import FileError
from support.model_layouts import (
    REFINER,
    SD1,
    SD2,
    SDXL,
    Shape,
    UnetLayout,
    clip_shapes,
    controlnet_shapes,
    open_clip_shapes,
    original_vae_shapes,
    unet_shapes,
)
from support.original_names import original_unet, prefixed
from support.weights_files import write_weights

UNET = "model.diffusion_model."
TEXT = "cond_stage_model.transformer."
TEXT_2 = "cond_stage_model.model."
XL_TEXT = "conditioner.embedders.0.transformer."
XL_TEXT_2 = "conditioner.embedders.1.model."
REFINER_TEXT = "conditioner.embedders.0.model."
VAE = VaeFile("ldm", "first_stage_model.", 4)

# The layout, the text encoders by their prefixes, what is found.
CHECKPOINTS: Mapping[FamilyName, tuple[UnetLayout, dict[str, dict[str, Shape]], CheckpointFile]] = {
    "stable-diffusion-1": (
        SD1,
        {TEXT: clip_shapes(768, 12)},
        CheckpointFile(
            "stable-diffusion-1", "ldm", UNET, 4, 768,
            text_encoders=(EncoderKeys(TEXT, "transformers"),), vae=VAE,
        ),
    ),
    "stable-diffusion-2": (
        SD2,
        {TEXT_2: open_clip_shapes(1024, 24)},
        CheckpointFile(
            "stable-diffusion-2", "ldm", UNET, 4, 1024,
            text_encoders=(EncoderKeys(TEXT_2, "open_clip"),), vae=VAE,
        ),
    ),
    "stable-diffusion-xl": (
        SDXL,
        {XL_TEXT: clip_shapes(768, 12), XL_TEXT_2: open_clip_shapes(1280, 32)},
        CheckpointFile(
            "stable-diffusion-xl", "ldm", UNET, 4, 2048,
            text_encoders=(
                EncoderKeys(XL_TEXT, "transformers"), EncoderKeys(XL_TEXT_2, "open_clip"),
            ),
            vae=VAE,
        ),
    ),
    "stable-diffusion-xl-refiner": (
        REFINER,
        {REFINER_TEXT: open_clip_shapes(1280, 32)},
        CheckpointFile(
            "stable-diffusion-xl-refiner", "ldm", UNET, 4, 1280,
            text_encoders=(EncoderKeys(REFINER_TEXT, "open_clip"),), vae=VAE,
        ),
    ),
}  # fmt: skip
FAMILIES = pytest.mark.parametrize("family", CHECKPOINTS)


def checkpoint(family: FamilyName) -> dict[str, Shape]:
    """All that is in the file of a checkpoint."""
    layout, encoders, _ = CHECKPOINTS[family]
    shapes = prefixed(UNET, original_unet(unet_shapes(layout)))
    for prefix, encoder in encoders.items():
        shapes |= prefixed(prefix, encoder)
    return shapes | prefixed("first_stage_model.", original_vae_shapes())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.safetensors"


def found_in(
    path: Path, shapes: Mapping[str, Shape], metadata: Mapping[str, str] | None = None
) -> Found:
    return recognised(SafetensorsFile.open(write_weights(path, shapes, metadata=metadata)))


@FAMILIES
def test_a_checkpoint(family: FamilyName, path: Path) -> None:
    *_, expected = CHECKPOINTS[family]
    assert found_in(path, checkpoint(family)) == expected


@FAMILIES
def test_a_unet_alone(family: FamilyName, path: Path) -> None:
    layout, _, whole = CHECKPOINTS[family]
    shapes = unet_shapes(layout)
    expected = replace(whole, prefix="", text_encoders=(), vae=None)
    assert found_in(path, original_unet(shapes)) == expected
    assert found_in(path, shapes) == replace(expected, layout="diffusers")
    assert expected.title.startswith("a UNet of ")


@pytest.mark.parametrize(
    ("marks", "metadata", "prediction", "zero_terminal_snr"),
    [
        ({"v_pred": (0,)}, {}, "v_prediction", False),
        ({"v_pred": (0,), "ztsnr": (0,)}, {}, "v_prediction", True),
        ({}, {"modelspec.prediction_type": "v"}, "v_prediction", False),
        ({}, {"modelspec.predict_key": "epsilon"}, "epsilon", False),
        ({}, {"modelspec.prediction_type": "something"}, None, False),
    ],
)
def test_marks_of_a_prediction(
    marks: dict[str, Shape],
    metadata: dict[str, str],
    prediction: str | None,
    zero_terminal_snr: bool,
    path: Path,
) -> None:
    found = found_in(path, checkpoint("stable-diffusion-xl") | marks, metadata)
    assert isinstance(found, CheckpointFile)
    assert (found.prediction, found.zero_terminal_snr) == (prediction, zero_terminal_snr)


def test_a_checkpoint_for_inpainting_with_averaged_weights(path: Path) -> None:
    shapes = checkpoint("stable-diffusion-1")
    shapes[f"{UNET}input_blocks.0.0.weight"] = (320, 9, 3, 3)
    shapes["model_ema.diffusion_modelinput_blocks00weight"] = (320, 9, 3, 3)
    found = found_in(path, shapes)
    *_, expected = CHECKPOINTS["stable-diffusion-1"]
    assert found == replace(expected, in_channels=9, ema=True)
    assert found.title == "a checkpoint of Stable Diffusion 1 for inpainting"


def test_a_checkpoint_without_a_vae_and_with_text_of_old_names(path: Path) -> None:
    """Old merges name the text encoder's weights without "text_model."."""
    shapes = {
        key.replace("text_model.", ""): shape
        for key, shape in checkpoint("stable-diffusion-1").items()
        if not key.startswith("first_stage_model.")
    }
    *_, expected = CHECKPOINTS["stable-diffusion-1"]
    assert found_in(path, shapes) == replace(expected, vae=None)


def test_a_checkpoint_of_sdxl_without_its_second_text_encoder(path: Path) -> None:
    shapes = checkpoint("stable-diffusion-xl")
    shapes = {key: shape for key, shape in shapes.items() if not key.startswith(XL_TEXT_2)}
    *_, expected = CHECKPOINTS["stable-diffusion-xl"]
    assert found_in(path, shapes) == replace(expected, text_encoders=expected.text_encoders[:1])


def test_a_tiny_checkpoint(path: Path) -> None:
    """Families differ in their layers, so the widths may be any."""
    for family, (layout, encoders, _) in CHECKPOINTS.items():
        tiny = replace(layout, channels=(32,) * len(layout.channels), context=24)
        if tiny.added:
            tiny = replace(tiny, added=40)
        shapes = prefixed(UNET, original_unet(unet_shapes(tiny)))
        for prefix, encoder in encoders.items():
            shapes |= prefixed(prefix, encoder)
        found = found_in(path, shapes)
        assert isinstance(found, CheckpointFile)
        assert (found.family, found.context_width) == (family, 24)


@pytest.mark.parametrize(
    ("channels", "title"),
    [(5, "a depth map"), (7, "an upscaler"), (8, "InstructPix2Pix")],
)
def test_a_unet_that_reads_something_else(channels: int, title: str, path: Path) -> None:
    shapes = original_unet(unet_shapes(replace(SD2, in_channels=channels)))
    found = found_in(path, prefixed(UNET, shapes))
    assert isinstance(found, ForeignFile)
    assert title in found.title


def test_stable_unclip(path: Path) -> None:
    shapes = prefixed(UNET, original_unet(unet_shapes(SD2)))
    shapes[f"{UNET}label_emb.0.0.weight"] = (1280, 2048)
    assert found_in(path, shapes) == ForeignFile("a model of Stable unCLIP")


# --- ControlNets


@pytest.mark.parametrize("prefix", ["", "control_model."])
@pytest.mark.parametrize(
    ("layout", "family"),
    [(SD1, "stable-diffusion-1"), (SD2, "stable-diffusion-2"), (SDXL, "stable-diffusion-xl")],
    ids=["sd1", "sd2", "sdxl"],
)
def test_a_controlnet(layout: UnetLayout, family: FamilyName, prefix: str, path: Path) -> None:
    shapes = controlnet_shapes(layout)
    expected = ControlNetFile(family, "ldm", prefix, 3, layout.context)
    assert found_in(path, prefixed(prefix, original_unet(shapes))) == expected
    assert found_in(path, shapes) == replace(expected, layout="diffusers", prefix="")


def test_a_small_controlnet_for_sdxl_reads_no_text(path: Path) -> None:
    small = replace(SDXL, depths=(0, 0, 0), middle=0)
    assert found_in(path, controlnet_shapes(small)) == ControlNetFile(
        "stable-diffusion-xl", "diffusers", "", 3, None
    )


def test_a_controlnet_with_the_model_that_it_was_made_from(path: Path) -> None:
    """As the first ControlNets were published."""
    shapes = prefixed("control_model.", original_unet(controlnet_shapes(SD1)))
    found = found_in(path, checkpoint("stable-diffusion-1") | shapes)
    assert found == ControlNetFile("stable-diffusion-1", "ldm", "control_model.", 3, 768)


# --- VAEs


@pytest.mark.parametrize("prefix", ["", "first_stage_model.", "vae."])
def test_a_vae(prefix: str, path: Path) -> None:
    found = found_in(path, prefixed(prefix, original_vae_shapes()))
    assert found == VaeFile("ldm", prefix, 4)


def test_a_vae_in_the_names_of_diffusers(path: Path) -> None:
    shapes = {
        "encoder.conv_out.weight": (32, 512, 3, 3),
        "encoder.down_blocks.0.resnets.0.norm1.weight": (128,),
        "decoder.conv_in.weight": (512, 16, 3, 3),
        "decoder.up_blocks.0.resnets.0.norm1.weight": (512,),
    }
    found = found_in(path, shapes)
    assert found == VaeFile("diffusers", "", 16)
    assert found.title == "a VAE of 16 latent channels"


@pytest.mark.parametrize("half", ["encoder", "decoder"])
def test_half_a_vae(half: str, path: Path) -> None:
    shapes = {key: shape for key, shape in original_vae_shapes().items() if key.startswith(half)}
    found = found_in(path, shapes)
    assert found == VaeFile("ldm", "", 4, encoder=half == "encoder", decoder=half == "decoder")


TINY_ENCODER = {  # convolutions with nothing, or three blocks, behind each
    **{f"{n}.weight": (64, 64, 3, 3) for n in (2, 6, 10)},
    **{f"{n}.conv.{i}.weight": (64, 64, 3, 3) for n in (1, 3, 4, 5, 7, 8, 9) for i in (0, 2, 4)},
    "0.weight": (64, 3, 3, 3),
    "14.weight": (4, 64, 3, 3),
}
TINY_DECODER = {
    **{f"{n}.conv.{i}.weight": (64, 64, 3, 3) for n in (2, 3, 4, 7, 8, 9) for i in (0, 2, 4)},
    **{f"{n}.weight": (64, 64, 3, 3) for n in (6, 11, 16)},
    "0.weight": (64, 4, 3, 3),
    "17.weight": (3, 64, 3, 3),
}
AFTER_CLAMP = {  # TAESD's decoder begins with a layer without weights
    f"{int(name) + 1}.{rest}": shape
    for key, shape in TINY_DECODER.items()
    for name, _, rest in [key.partition(".")]
}


@pytest.mark.parametrize(
    ("shapes", "expected"),
    [
        (TINY_ENCODER, TinyVaeFile("taesd", "", None, 4)),
        (AFTER_CLAMP, TinyVaeFile("taesd", None, "", 4)),
        (prefixed("taesd_decoder.", AFTER_CLAMP), TinyVaeFile("taesd", None, "taesd_decoder.", 4)),
        (
            {
                **prefixed("encoder.layers.", TINY_ENCODER),
                **prefixed("decoder.layers.", TINY_DECODER),
            },
            TinyVaeFile("diffusers", "encoder.layers.", "decoder.layers.", 4),
        ),
    ],
    ids=["encoder", "decoder", "prefixed", "diffusers"],
)
def test_a_tiny_vae(shapes: dict[str, Shape], expected: TinyVaeFile, path: Path) -> None:
    assert found_in(path, shapes) == expected


# --- nothing of these


def test_text_encoders_without_a_unet(path: Path) -> None:
    with pytest.raises(FileError) as caught:
        found_in(path, prefixed(TEXT, clip_shapes(768, 2)))
    assert str(caught.value) == (
        f"{path}: not a kind of file that sdrt knows: it has 36 tensors (the first: "
        "'cond_stage_model.transformer.text_model.embeddings.token_embedding.weight', "
        "'cond_stage_model.transformer.text_model.embeddings.position_embedding.weight', "
        "'cond_stage_model.transformer.text_model.final_layer_norm.weight', "
        "'cond_stage_model.transformer.text_model.final_layer_norm.bias'): sdrt reads checkpoints, "
        "VAEs, ControlNets, LoRAs and embeddings of Stable Diffusion 1, 2, XL"
    )


def test_no_tensors(path: Path) -> None:
    with pytest.raises(FileError, match=r"it has 0 tensors \(the first: none\): "):
        found_in(path, {})


@pytest.mark.parametrize(
    "shapes",
    [
        {"input_blocks.0.0.weight": (320,), "input_blocks.1.0.in_layers.2.weight": ()},
        {"encoder.down.0.block.0.norm1.weight": (), "decoder.conv_in.weight": ()},
        {"0.weight": (), "1.conv.0.weight": (), "14.weight": ()},
        {"a": (1, 2, 3)},
    ],
)
def test_shapes_that_no_model_has(shapes: dict[str, Shape], path: Path) -> None:
    with pytest.raises(FileError, match="not a kind of file that sdrt knows"):
        found_in(path, shapes)
