"""The largest arrays of networks, from their configurations."""

from __future__ import annotations

from typing import Any

import pytest

from sdrt.errors import BundleError
from sdrt.families.activations import NO_ACTIVATIONS, Activations, activations_from_config
from sdrt.families.family import Role
from sdrt.files.json_fields import JsonFields

WITH, WITHOUT = "CrossAttnDownBlock2D", "DownBlock2D"
SD1: dict[str, Any] = {
    "block_out_channels": [320, 640, 1280, 1280],
    "down_block_types": [WITH, WITH, WITH, WITHOUT],
    "attention_head_dim": 8,
}
SD2 = SD1 | {"attention_head_dim": [5, 10, 20, 20]}
SDXL: dict[str, Any] = {
    "block_out_channels": [320, 640, 1280],
    "down_block_types": [WITHOUT, WITH, WITH],
    "attention_head_dim": [5, 10, 20],
}
VAE: dict[str, Any] = {"block_out_channels": [128, 256, 512, 512]}
TAESD: dict[str, Any] = {
    "_class_name": "AutoencoderTiny",
    "encoder_block_out_channels": [32, 64, 64, 64],
    "decoder_block_out_channels": [64, 64, 64, 64],
}


@pytest.mark.parametrize(
    ("role", "config", "expected"),
    [
        ("denoiser", SD1, Activations(12 * 320 * 4, 8 * 4)),
        ("controlnet", SD1, Activations(12 * 320 * 4, 8 * 4)),
        ("denoiser", SD2, Activations(12 * 320 * 4, 5 * 4)),
        ("denoiser", SDXL, Activations(12 * 640 * 4 / 4, 10 * 4 / 16)),
        ("denoiser", SDXL | {"num_attention_heads": 32}, Activations(12 * 640, 32 * 4 / 16)),
        ("denoiser", SD1 | {"down_block_types": [WITHOUT] * 4}, Activations(960 * 4, 0)),
        ("vae decoder", VAE, Activations(256 * 64 * 4, 4)),
        ("vae encoder", VAE, Activations(128 * 64 * 4, 4)),
        ("vae decoder", VAE | {"mid_block_add_attention": False}, Activations(256 * 64 * 4, 0)),
        ("vae decoder", {"block_out_channels": [64]}, Activations(64 * 4, 4)),
        ("vae decoder", TAESD, Activations(64 * 64 * 4, 0)),
        ("vae encoder", TAESD, Activations(32 * 64 * 4, 0)),
        ("text encoder", {}, NO_ACTIVATIONS),
    ],
)
def test_known_networks(role: Role, config: dict[str, Any], expected: Activations) -> None:
    assert activations_from_config(role, JsonFields(config)) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"block_out_channels": []},
        {"block_out_channels": [0]},
        {"block_out_channels": [2.5]},
        {"block_out_channels": [10**400]},
        {"block_out_channels": None},
        {"down_block_types": 3},
        {"attention_head_dim": "8"},
        {"attention_head_dim": [True] * 4},
    ],
)
def test_malformed_configurations(change: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match=next(iter(change))):
        activations_from_config("denoiser", JsonFields(SD1 | change))
