"""Single files that are not whole checkpoints: each refused by what it is, before any work."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from sdrt_export.checkpoints import clip_vocabulary
from sdrt_export.checkpoints.checkpoint import checkpoint_from_source
from sdrt_export.errors import CheckpointError
from sdrt_export.networks.loading import parts_from_checkpoint
from support.original_layout import SD1, UNET, VAE, Weights, save
from support.original_names import prefixed

pytestmark = [pytest.mark.export, pytest.mark.needs("open_clip")]


def refusal(weights: Weights, folder: Path, vae_elsewhere: bool = False) -> str:
    """The message for a file, without its path, always a single line."""
    path = save(weights, folder / "model.safetensors")
    with pytest.raises(CheckpointError) as caught:
        checkpoint_from_source(path, vae_elsewhere=vae_elsewhere)
    message = str(caught.value)
    assert "\n" not in message
    return message.replace(str(path), "FILE")


def without(prefix: str, weights: Weights) -> Weights:
    return {key: weight for key, weight in weights.items() if not key.startswith(prefix)}


def test_a_missing_vae(sd1: Weights, tmp_path: Path) -> None:
    weights = without(VAE, sd1)
    assert refusal(weights, tmp_path) == (
        "'FILE' is a checkpoint of Stable Diffusion 1 without a VAE: give one with --vae, such as "
        "the file or the folder of the VAE that its author names"
    )
    path = save(weights, tmp_path / "model.safetensors")
    checkpoint = checkpoint_from_source(path, vae_elsewhere=True)
    assert [part.folder for part in checkpoint.weights] == ["text_encoder", "unet"]
    assert checkpoint.family.latents.scaling_factor == 0.18215


def test_half_a_vae(sd1: Weights, tmp_path: Path) -> None:
    assert "without a VAE: give one with --vae" in refusal(without(f"{VAE}encoder", sd1), tmp_path)


@pytest.mark.parametrize("prefix", [UNET, ""])
def test_a_unet_alone(prefix: str, sd1: Weights, tmp_path: Path) -> None:
    unet = {key.removeprefix(UNET): weight for key, weight in sd1.items() if key.startswith(UNET)}
    assert refusal(prefixed(prefix, unet), tmp_path, vae_elsewhere=True) == (
        "'FILE' is a UNet of Stable Diffusion 1 without its text encoder, expected a checkpoint "
        "with all its models: export the checkpoint that it was taken from"
    )


def test_one_text_encoder_of_two(
    original_weights: Callable[[str], Weights], tmp_path: Path
) -> None:
    weights = without("conditioner.", original_weights("xl"))
    assert "without its text encoder and second text encoder, expected" in refusal(
        weights, tmp_path
    )


def test_a_vae(sd1: Weights, tmp_path: Path) -> None:
    vae = {key: weight for key, weight in sd1.items() if key.startswith(VAE)}
    assert refusal(vae, tmp_path) == (
        "'FILE' is a VAE of 4 latent channels, expected a checkpoint: sdrt export MODEL --vae FILE "
        "-o BUNDLE"
    )


@pytest.mark.parametrize(
    ("keys", "what"),
    [
        (["joint_blocks.0.context_block.adaLN_modulation.1.bias"], "an SD3 or SD3.5 model"),
        (["double_blocks.0.img_attn.norm.key_norm.scale"], "a Flux model"),
    ],
)
def test_other_families(keys: list[str], what: str, tmp_path: Path) -> None:
    weights = {f"model.diffusion_model.{key}": torch.ones(4) for key in keys}
    message = refusal(weights, tmp_path)
    assert message.startswith(f"'FILE' is {what}, expected a checkpoint: sdrt reads checkpoints, ")


def test_a_lora(tmp_path: Path) -> None:
    name = "lora_unet_down_blocks_0_attentions_0_transformer_blocks_0_attn2_to_k"
    weights = {
        f"{name}.lora_down.weight": torch.ones(4, 768),
        f"{name}.lora_up.weight": torch.ones(320, 4),
    }
    assert (
        "is a LoRA for Stable Diffusion 1, expected a checkpoint: sdrt export MODEL --lora FILE"
        in refusal(weights, tmp_path)
    )


def test_nothing_known(tmp_path: Path) -> None:
    assert "FILE" in refusal({"weight": torch.ones(1)}, tmp_path)


def test_a_truncated_file(sd1: Weights, tmp_path: Path) -> None:
    path = save(sd1, tmp_path / "model.safetensors")
    path.write_bytes(path.read_bytes()[:-2])
    with pytest.raises(CheckpointError, match=f"^{path}: not a complete safetensors file"):
        checkpoint_from_source(path)


def test_layers_that_no_unet_has(sd1: Weights, tmp_path: Path) -> None:
    key = f"{UNET}input_blocks.1.1.transformer_blocks.0.extra.weight"
    other = f"{UNET}adapter.weight"
    assert refusal(sd1 | {other: torch.ones(1)}, tmp_path) == (
        f"'FILE': its UNet has {other}, which no UNet that sdrt exports has: it is of another "
        "architecture"
    )
    path = save(sd1 | {key: torch.ones(1)}, tmp_path / "model.safetensors")
    part = next(p for p in parts_from_checkpoint(checkpoint_from_source(path)) if p.name == "unet")
    with pytest.raises(CheckpointError, match="has 1 weights that its configuration has no layers"):
        part.weights()


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("first_stage_model.encoder.conv_in.weight", "its VAE lacks encoder.conv_in.weight"),
        (
            f"{SD1['text_encoder']}text_model.encoder.layers.0.mlp.fc1.weight",
            "its text encoder lacks text_model.encoder.layers.0.mlp.fc1.weight",
        ),
    ],
)
def test_missing_weights(key: str, message: str, sd1: Weights, tmp_path: Path) -> None:
    del sd1[key]
    assert refusal(sd1, tmp_path) == f"'FILE': {message}: download or save the file again"


def test_a_missing_package_is_named_with_the_command(
    sd1: Weights, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(clip_vocabulary, "_PACKAGES", ("no_such_package",))
    assert refusal(sd1, tmp_path).endswith(": pip install --no-deps open-clip-torch")


def test_a_damaged_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "vocabulary.gz"
    for content in (b"", b"nothing", clip_vocabulary.vocabulary_file().read_bytes()[:5000]):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match=f"^{re.escape(str(path))}: .*install"):
            clip_vocabulary.clip_merges(path)


def test_a_folder_says_what_its_unet_predicts(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match=r"says so in scheduler/scheduler_config\.json"):
        checkpoint_from_source(checkpoint, prediction="epsilon")
