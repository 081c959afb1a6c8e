"""The published architectures with few narrow layers: what single files are recognised by stays."""

from dataclasses import replace
from typing import Any

import torch

from sdrt_export.architectures import SD15, SD21, SDXL, SDXL_REFINER, Architecture
from support.original_layout import REFINER, SD1, SD2, XL

_TEXT = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_attention_heads": 1,
    "num_hidden_layers": 2,
}
_VAE = {
    "block_out_channels": (32, 64),
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
    "layers_per_block": 1,
}
_UNET = {
    "layers_per_block": 1,
    "block_out_channels": (64, 128),
    "down_block_types": ("CrossAttnDownBlock2D", "DownBlock2D"),
    "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D"),
}
_XL_BLOCKS = {
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}


def _narrow(
    published: Architecture,
    unet: dict[str, Any],
    text: dict[str, Any] | None = None,
    second: dict[str, Any] | None = None,
) -> Architecture:
    first = published.text_encoder
    last = published.text_encoder_2
    return replace(
        published,
        text_encoder=first and {**first, **_TEXT, **(text or {})},
        text_encoder_2=last and {**last, **_TEXT, **(second or {})},
        unet={**published.unet, **_UNET, **unet},
        vae={**published.vae, **_VAE},
    )


_PER_HEAD = {"attention_head_dim": (1, 2)}
_WIDE = {"hidden_size": 1024, "num_attention_heads": 16}  # by which sdrt recognises SD2
_SECOND = {"projection_dim": 48}

NARROW = {
    "sd1": _narrow(SD15, {"cross_attention_dim": 64}),
    "sd2_v": _narrow(SD21, _PER_HEAD, _WIDE),
    "xl": _narrow(
        SDXL,
        {
            **_XL_BLOCKS,
            **_PER_HEAD,
            "transformer_layers_per_block": (1, 2),
            "cross_attention_dim": 128,
            "projection_class_embeddings_input_dim": 48 + 6 * 256,
        },
        second=_SECOND,
    ),
    "refiner": _narrow(
        SDXL_REFINER,
        {
            "block_out_channels": (64, 128, 128),
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "attention_head_dim": (1, 2, 2),
            "transformer_layers_per_block": 2,
            "cross_attention_dim": 64,
            "projection_class_embeddings_input_dim": 48 + 5 * 256,
        },
        second=_SECOND,
    ),
}
# The prefixes of their text encoders in files.
ENCODERS = {
    "sd1": SD1,
    "sd2_v": SD2,
    "xl": XL,
    "refiner": REFINER,
}
# A file of SD2 does not say otherwise what its UNet predicts.
MARKS = {"sd2_v": {"v_pred": torch.empty(0)}}
