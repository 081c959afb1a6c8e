"""Configurations of published checkpoints, as in their `config.json` files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

Config: TypeAlias = Mapping[str, Any]


@dataclass(frozen=True)
class Architecture:
    """The configurations of a checkpoint's parts.

    A refiner's first text encoder is None.
    """

    text_encoder: Config | None
    unet: Config
    vae: Config
    scheduler: Config  # with its class
    text_encoder_2: Config | None = None
    pipeline: str = "StableDiffusionPipeline"
    options: Mapping[str, bool] = field(default_factory=dict)  # in model_index.json
    pad_token: str = "<|endoftext|>"  # of the first tokenizer


_CLIP_L = {
    "vocab_size": 49408,
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "max_position_embeddings": 77,
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "bos_token_id": 0,
    "eos_token_id": 2,
    "pad_token_id": 1,
}
_OPENCLIP_H = _CLIP_L | {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "projection_dim": 512,
    "num_hidden_layers": 23,
    "num_attention_heads": 16,
    "hidden_act": "gelu",
}
_OPENCLIP_BIG_G = _OPENCLIP_H | {
    "hidden_size": 1280,
    "intermediate_size": 5120,
    "projection_dim": 1280,
    "num_hidden_layers": 32,
    "num_attention_heads": 20,
}
_VAE = {
    "sample_size": 512,
    "latent_channels": 4,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "norm_num_groups": 32,
    "scaling_factor": 0.18215,
}
_BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "set_alpha_to_one": False,
    "skip_prk_steps": True,
    "steps_offset": 1,
}

# https://huggingface.co/stable-diffusion-v1-5/stable-diffusion-v1-5: 123, 860 and 84 M parameters
SD15 = Architecture(
    text_encoder=_CLIP_L,
    unet={
        "sample_size": 64,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280, 1280),
        "down_block_types": (*("CrossAttnDownBlock2D",) * 3, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 3),
        "layers_per_block": 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 768,
        "norm_num_groups": 32,
    },
    vae=_VAE,
    scheduler={"_class_name": "PNDMScheduler", **_BETAS},
)

# https://huggingface.co/stabilityai/stable-diffusion-2-1: 340, 866 and 84 M parameters
SD21 = Architecture(
    text_encoder=_OPENCLIP_H,
    unet={
        **SD15.unet,
        "sample_size": 96,
        "attention_head_dim": (5, 10, 20, 20),
        "cross_attention_dim": 1024,
        "use_linear_projection": True,
        "upcast_attention": True,
    },
    vae=_VAE | {"sample_size": 768},
    scheduler={
        "_class_name": "DDIMScheduler",
        "prediction_type": "v_prediction",
        "clip_sample": False,
        **_BETAS,
    },
    pad_token="!",
)
# https://huggingface.co/stabilityai/stable-diffusion-2-1-base
SD21_BASE = replace(
    SD21,
    unet={**SD21.unet, "sample_size": 64},
    vae=_VAE,
    scheduler={"_class_name": "PNDMScheduler", **_BETAS},
)
# https://huggingface.co/stabilityai/sd-turbo
SD_TURBO = replace(
    SD21,
    unet={**SD21.unet, "sample_size": 64},
    scheduler={
        "_class_name": "EulerDiscreteScheduler",
        "timestep_spacing": "trailing",
        **_BETAS,
    },
)

# https://huggingface.co/stabilityai/stable-diffusion-xl-base-1.0: 123, 695, 2567 and 84 M
SDXL = Architecture(
    text_encoder=_CLIP_L,
    text_encoder_2=_OPENCLIP_BIG_G,
    unet={
        "sample_size": 128,
        "in_channels": 4,
        "out_channels": 4,
        "block_out_channels": (320, 640, 1280),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "layers_per_block": 2,
        "transformer_layers_per_block": (1, 2, 10),
        "attention_head_dim": (5, 10, 20),
        "cross_attention_dim": 2048,
        "use_linear_projection": True,
        "norm_num_groups": 32,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 256,
        "projection_class_embeddings_input_dim": 2816,
    },
    vae=_VAE | {"sample_size": 1024, "scaling_factor": 0.13025, "force_upcast": True},
    scheduler={
        "_class_name": "EulerDiscreteScheduler",
        "timestep_spacing": "leading",
        **_BETAS,
    },
    pipeline="StableDiffusionXLPipeline",
    options={"force_zeros_for_empty_prompt": True},
)
# https://huggingface.co/stabilityai/stable-diffusion-xl-refiner-1.0: 695, 2259 and 84 M
SDXL_REFINER = replace(
    SDXL,
    text_encoder=None,
    unet={
        **SDXL.unet,
        "block_out_channels": (384, 768, 1536, 1536),
        "down_block_types": ("DownBlock2D", *("CrossAttnDownBlock2D",) * 2, "DownBlock2D"),
        "up_block_types": ("UpBlock2D", *("CrossAttnUpBlock2D",) * 2, "UpBlock2D"),
        "transformer_layers_per_block": 4,
        "attention_head_dim": (6, 12, 24, 24),
        "cross_attention_dim": 1280,
        "projection_class_embeddings_input_dim": 2560,
    },
    pipeline="StableDiffusionXLImg2ImgPipeline",
    options={"force_zeros_for_empty_prompt": False, "requires_aesthetics_score": True},
)
# https://huggingface.co/stabilityai/sdxl-turbo
SDXL_TURBO = replace(
    SDXL,
    unet={**SDXL.unet, "sample_size": 64},
    scheduler={
        "_class_name": "EulerAncestralDiscreteScheduler",
        "timestep_spacing": "trailing",
        **_BETAS,
    },
)

# https://huggingface.co/madebyollin/taesd and taesdxl
TAESD: Config = {
    "encoder_block_out_channels": (64,) * 4,
    "decoder_block_out_channels": (64,) * 4,
    "num_encoder_blocks": (1, 3, 3, 3),
    "num_decoder_blocks": (3, 3, 3, 1),
    "scaling_factor": 1.0,
}

# Differences of smaller ControlNets from the first half of SDXL's UNet, which the full ones are.
# https://huggingface.co/diffusers/controlnet-canny-sdxl-1.0-mid
MID: Config = {
    "down_block_types": ("DownBlock2D", "DownBlock2D", "CrossAttnDownBlock2D"),
    "transformer_layers_per_block": 1,
}
# Without transformers in the blocks.
SMALL: Config = {"down_block_types": ("DownBlock2D",) * 3, "transformer_layers_per_block": 1}
