"""Bad VAEs: each is reported in one line with a remedy, before any work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny
from safetensors.torch import save_file

from sdrt.families.family import LatentSpace
from sdrt.families.known import latents_with_vae
from sdrt.files.json_fields import JsonFields
from sdrt_export.checkpoints.checkpoint import Checkpoint, checkpoint_from_source
from sdrt_export.checkpoints.vae import (
    note_on_other_scale,
    tiny_vae_from_source,
    with_other_vae,
)
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.loading import parts_from_vae
from support.other_vaes import other_vae, tiny_vae

pytestmark = pytest.mark.export

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(scope="module")
def classic(checkpoint: Path) -> Checkpoint:
    return checkpoint_from_source(checkpoint)


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_vae(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A good tiny VAE to break."""
    return shutil.copytree(good, tmp_path / "tiny")


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """Another VAE that fits the checkpoint, to break."""
    return other_vae("classic", tmp_path / "other")


def edit(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    kept = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({name: kept[name] for name in kept if kept[name] is not None}))


def refusal_of_tiny(source: Path, checkpoint: Checkpoint) -> str:
    with pytest.raises(CheckpointError) as caught:
        tiny_vae_from_source(source, checkpoint.family)
    return one_line(caught.value)


def refusal_of_other(source: Path, checkpoint: Checkpoint) -> str:
    with pytest.raises(CheckpointError) as caught:
        with_other_vae(checkpoint, source)
    return one_line(caught.value)


def one_line(error: CheckpointError) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_a_good_one_is_read(folder: Path, classic: Checkpoint) -> None:
    vae = tiny_vae_from_source(folder, classic.family)
    assert (vae.folder, vae.source) == (folder, str(folder))
    assert vae.latents == replace(classic.family.latents, scaling_factor=1.0)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"latent_channels": 16}, "it has 16 latent channels, the UNet has 4: it is made for"),
        ({"_class_name": "AutoencoderKL"}, "it is AutoencoderKL, expected AutoencoderTiny: give "),
        ({"_class_name": "VQModel"}, "it is VQModel, expected AutoencoderTiny"),
        ({"_class_name": None}, "it is not a model of diffusers, expected AutoencoderTiny"),
        ({"in_channels": 4}, "it has in_channels=4, expected 3: red, green and blue"),
        ({"num_decoder_blocks": [1, 0]}, "num_decoder_blocks: got 0, expected a whole number"),
        ({"decoder_block_out_channels": "6"}, 'decoder_block_out_channels: got "6", expected an'),
        ({"upsampling_scaling_factor": 4}, "it has upsampling_scaling_factor=4, expected 2"),
        ({"encoder_block_out_channels": [6, 6, 6]}, "its halves have different numbers of levels"),
        (
            {
                "encoder_block_out_channels": [6] * 3,
                "decoder_block_out_channels": [6] * 3,
                "num_encoder_blocks": [1] * 3,
                "num_decoder_blocks": [1] * 3,
            },
            "it has 4 pixels per latent, the checkpoint's VAE 2: it is made for another model",
        ),
    ],
)
def test_a_tiny_vae_that_does_not_fit_is_refused(
    changes: dict[str, Any], reason: str, folder: Path, classic: Checkpoint
) -> None:
    edit(folder, **changes)
    message = refusal_of_tiny(folder, classic)
    assert message.startswith(f"the tiny VAE '{folder}' cannot be exported: ")
    assert reason in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"latent_channels": 16}, "it has 16 latent channels, the UNet has 4: it is made for"),
        ({"_class_name": "AutoencoderTiny"}, "expected AutoencoderKL: give it as --tiny-vae"),
        ({"_class_name": "AsymmetricAutoencoderKL"}, "it is AsymmetricAutoencoderKL, expected"),
        ({"block_out_channels": [4, 8, 8]}, "it has 4 pixels per latent, the checkpoint's VAE 2"),
        ({"scaling_factor": "x"}, 'scaling_factor: got "x", expected a number'),
        ({"scaling_factor": 0}, "scaling_factor: got 0, expected any other number"),
    ],
)
def test_another_vae_that_does_not_fit_is_refused(
    changes: dict[str, Any], reason: str, other: Path, classic: Checkpoint
) -> None:
    edit(other, **changes)
    message = refusal_of_other(other, classic)
    assert message.startswith(f"the VAE '{other}' cannot be exported: ")
    assert reason in message


def test_a_pipeline_is_no_vae(checkpoint: Path, classic: Checkpoint) -> None:
    assert refusal_of_other(checkpoint, classic) == (
        f"'{checkpoint}' is a whole pipeline, expected the folder of a VAE: name the one inside "
        f"it, such as '{checkpoint}/vae'"
    )
    assert with_other_vae(classic, checkpoint / "vae").family == classic.family


def test_a_truncated_file_is_reported(folder: Path, other: Path, classic: Checkpoint) -> None:
    for broken in (folder, other):
        path = broken / WEIGHTS
        path.write_bytes(path.read_bytes()[:-8])
    assert "not a complete safetensors file" in refusal_of_tiny(folder, classic)
    assert "not a complete safetensors file" in refusal_of_other(other, classic)


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, 0.18215),
        ({"scaling_factor": None}, 0.18215),  # what it leaves out stays as it is
        ({"scaling_factor": 0.5}, 0.5),
    ],
)
def test_the_scale_is_the_vae_s_if_it_states_one(
    changes: dict[str, Any], expected: float, other: Path, classic: Checkpoint
) -> None:
    edit(other, **changes)
    checkpoint = with_other_vae(classic, other)
    assert checkpoint.family.latents.scaling_factor == expected
    assert replace(checkpoint.family, latents=classic.family.latents) == classic.family
    assert checkpoint.vae is not None
    note = note_on_other_scale(checkpoint.vae, checkpoint.family.latents, classic.family.latents)
    assert str(note) == (
        f"vae: '{other}' scales latents by {expected:g}, the checkpoint's own VAE by 0.18215: if "
        "the images look wrong, take one that was made for this model"
    )


def test_only_sdxl_scales_each_channel(tiny_checkpoint: Callable[[str], Path]) -> None:
    statistics = {"latents_mean": [1, 2, 3, 4], "latents_std": [1, 1, 1, 2]}
    vae = JsonFields({"block_out_channels": [4, 8], **statistics})
    xl, classic = (
        checkpoint_from_source(tiny_checkpoint(name)).family for name in ("xl", "classic")
    )
    assert latents_with_vae(xl, vae) == replace(
        xl.latents, mean=(1.0, 2.0, 3.0, 4.0), std=(1.0, 1.0, 1.0, 2.0)
    )
    assert latents_with_vae(classic, vae) == classic.latents


def original_half(weights: dict[str, torch.Tensor], half: str) -> dict[str, torch.Tensor]:
    """The names in TAESD's file of one half; the decoder begins with a layer without weights."""
    originals = {}
    for name, weight in weights.items():
        owner, _, number, rest = name.split(".", 3)
        if owner == half:
            originals[f"{int(number) + (half == 'decoder')}.{rest}"] = weight
    return originals


@pytest.mark.parametrize("given", ["encoder", "decoder"])
def test_taesd_s_two_files(given: str, classic: Checkpoint, tmp_path: Path) -> None:
    weights = AutoencoderTiny().state_dict()
    family = replace(classic.family, latents=LatentSpace(4, 8, 0.18215))
    paths = {half: tmp_path / f"taesd_{half}.safetensors" for half in ("encoder", "decoder")}
    save_file(original_half(weights, given), paths[given])
    other = "decoder" if given == "encoder" else "encoder"
    with pytest.raises(
        CheckpointError, match=f"4 latent channels without its {other}: put its {other} next to it"
    ):
        tiny_vae_from_source(paths[given], family)
    save_file(original_half(weights, other), paths[other])
    for part in parts_from_vae(tiny_vae_from_source(paths[given], family)):
        found = part.weights()
        assert found.keys() == weights.keys()
        for name, weight in weights.items():
            assert torch.equal(found[name], weight), name
