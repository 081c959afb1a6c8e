"""The tiny checkpoints of the tests, as differences from the defaults in `checkpoints`.

Every recipe differs from the others in something that a graph or a schedule could get wrong: heads,
layers, groups, activations, projections, latent channels, prediction types, schedulers, padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

END = "<|endoftext|>"


@dataclass(frozen=True)
class Recipe:
    """The differences from the defaults in `checkpoints`."""

    scheduler: str
    schedule: dict[str, Any] = field(default_factory=dict)
    unet: dict[str, Any] = field(default_factory=dict)
    vae: dict[str, Any] = field(default_factory=dict)
    text_encoder: dict[str, Any] | None = field(default_factory=dict)
    pad_token: str = END
    # Of SDXL. The refiner's `text_encoder` is None.
    text_encoder_2: dict[str, Any] | None = None
    options: dict[str, bool] = field(default_factory=dict)  # in model_index.json
    pipeline: str = "StableDiffusionPipeline"

    @property
    def num_time_ids(self) -> int:
        """Numbers about the image that SDXL's UNet takes."""
        return 5 if self.options.get("requires_aesthetics_score") else 6


# StableDiffusionPipeline rewrites schedules with another offset, or that clip samples.
_BETAS = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}

RECIPES: dict[str, Recipe] = {
    "classic": Recipe(
        scheduler="PNDMScheduler",
        schedule=_BETAS | {"skip_prk_steps": True, "set_alpha_to_one": False},
    ),
    "v_prediction": Recipe(
        scheduler="DDIMScheduler",
        schedule=_BETAS
        | {
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "timestep_spacing": "trailing",
            "clip_sample": False,
        },
        unet={"block_out_channels": (8, 16), "attention_head_dim": 4, "norm_num_groups": 4},
        vae={"block_out_channels": (4, 8, 8), "scaling_factor": 1.0},
        text_encoder={"num_attention_heads": 4, "hidden_size": 16, "num_hidden_layers": 3},
    ),
    "linear_projection": Recipe(  # the way of Stable Diffusion 2
        scheduler="EulerDiscreteScheduler",
        schedule=_BETAS | {"timestep_spacing": "leading"},
        unet={
            "block_out_channels": (8, 16),
            "attention_head_dim": (2, 4),
            "use_linear_projection": True,
            "upcast_attention": True,
        },
        vae={"scaling_factor": 0.13025},
        text_encoder={"hidden_act": "gelu"},
        pad_token="!",
    ),
    "deep": Recipe(
        scheduler="DPMSolverMultistepScheduler",
        schedule=_BETAS | {"use_karras_sigmas": True},
        unet={
            "block_out_channels": (4, 8, 16),
            "layers_per_block": 2,
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "norm_num_groups": 4,
        },
        vae={"block_out_channels": (4, 4, 8, 8), "norm_num_groups": 4},
        text_encoder={"num_hidden_layers": 4, "intermediate_size": 37},
    ),
    "lcm": Recipe(
        scheduler="LCMScheduler",
        schedule=_BETAS | {"original_inference_steps": 50},
        unet={"time_cond_proj_dim": 16, "block_out_channels": (8, 8)},
    ),
    "inpaint": Recipe(
        scheduler="DDIMScheduler",
        schedule=_BETAS | {"clip_sample": False},
        unet={"in_channels": 9},
    ),
    "sample_prediction": Recipe(
        scheduler="DDPMScheduler",
        schedule=_BETAS | {"prediction_type": "sample", "clip_sample": False},
        unet={
            "act_fn": "gelu",
            "resnet_time_scale_shift": "scale_shift",
            "transformer_layers_per_block": 2,
            "flip_sin_to_cos": False,
            "freq_shift": 1,
        },
        vae={"layers_per_block": 2, "use_quant_conv": False, "use_post_quant_conv": False},
        text_encoder={
            "eos_token_id": 2,
            "num_attention_heads": 1,
        },  # 2: as in old configs, whatever the vocabulary
    ),
    "wide_latents": Recipe(
        scheduler="EulerAncestralDiscreteScheduler",
        schedule=_BETAS | {"timestep_spacing": "linspace"},
        unet={
            "in_channels": 8,
            "out_channels": 8,
            "mid_block_type": None,
            "only_cross_attention": (True, False),
            "attention_head_dim": 1,
        },
        vae={"latent_channels": 8, "scaling_factor": 0.5},
    ),
}
# An inpainting UNet also takes a mask and a masked image.
TEXT_TO_IMAGE = tuple(name for name in RECIPES if name != "inpaint")


def _sd2(
    scheduler: str, schedule: Mapping[str, Any], unet: dict[str, Any], **parts: dict[str, Any]
) -> Recipe:
    """A recipe of version 2, which is recognised by the width of its text encoder."""
    encoder = {"hidden_size": 1024, "intermediate_size": 24, "hidden_act": "gelu"}
    return Recipe(
        scheduler=scheduler,
        schedule={**_BETAS, **schedule},
        unet={"use_linear_projection": True} | unet,
        vae=parts.get("vae", {}),
        text_encoder=encoder | parts.get("text_encoder", {}),
        pad_token="!",
    )


_TRAILING = {"timestep_spacing": "trailing"}

SD2: dict[str, Recipe] = {
    "sd2_v": _sd2(  # as the 768-v checkpoints
        "DDIMScheduler",
        {"prediction_type": "v_prediction", "clip_sample": False, "set_alpha_to_one": False},
        {"block_out_channels": (4, 8), "attention_head_dim": [1, 2], "sample_size": 24},
        text_encoder={"num_attention_heads": 16, "eos_token_id": 2},
    ),
    "sd2_base": _sd2(  # as the 512-base checkpoints
        "PNDMScheduler",
        {"skip_prk_steps": True, "set_alpha_to_one": False},
        {
            "block_out_channels": (4, 8, 8),
            "attention_head_dim": [1, 2, 4],
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
            "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
        },
        vae={"block_out_channels": (4, 4, 8)},
        text_encoder={"num_hidden_layers": 3, "num_attention_heads": 8},
    ),
    "sd2_odd": _sd2(
        "EulerDiscreteScheduler",
        {"prediction_type": "v_prediction"},
        {
            "block_out_channels": (6, 9),
            "attention_head_dim": [2, 3],
            "norm_num_groups": 3,
            "layers_per_block": 2,
            "transformer_layers_per_block": 2,
            "use_linear_projection": False,
            "upcast_attention": True,
        },
        vae={"layers_per_block": 2},
        text_encoder={"num_hidden_layers": 1, "num_attention_heads": 4},
    ),
    "sd2_inpaint": _sd2(
        "PNDMScheduler",
        {"skip_prk_steps": True, "set_alpha_to_one": False},
        {"in_channels": 9, "attention_head_dim": [2, 1]},
        text_encoder={"num_hidden_layers": 1},
    ),
    "sd2_turbo": _sd2(  # as SD-Turbo
        "EulerDiscreteScheduler", _TRAILING, {"attention_head_dim": [2, 4]}
    ),
}


def _xl(
    scheduler: str,
    schedule: Mapping[str, Any],
    unet: dict[str, Any],
    text_encoder_2: dict[str, Any],
    text_encoder: dict[str, Any] | None = None,
    vae: dict[str, Any] | None = None,
    **options: bool,
) -> Recipe:
    """A recipe of SDXL; its first block has no attention, as in the published models."""
    blocks = {
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": [1, 2],
        "use_linear_projection": True,
        "addition_embed_type": "text_time",
        "addition_time_embed_dim": 4,
    }
    return Recipe(
        scheduler=scheduler,
        schedule={**_BETAS, **schedule},
        unet=blocks | unet,
        vae={"scaling_factor": 0.13025} | (vae or {}),
        text_encoder=text_encoder or {},
        text_encoder_2={"hidden_act": "gelu"} | text_encoder_2,
        options={"force_zeros_for_empty_prompt": True} | options,
        pipeline="StableDiffusionXLPipeline",
    )


_LEADING = {"timestep_spacing": "leading"}

XL: dict[str, Recipe] = {
    "xl": _xl(
        "EulerDiscreteScheduler",
        _LEADING,
        {"attention_head_dim": [1, 2]},
        {"hidden_size": 12, "num_attention_heads": 3, "projection_dim": 10},
    ),
    "xl_deep": _xl(
        "DPMSolverMultistepScheduler",
        {"use_karras_sigmas": True},
        {
            "block_out_channels": (4, 8, 16),
            "attention_head_dim": [1, 2, 4],
            "layers_per_block": 2,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
            "transformer_layers_per_block": [1, 2, 3],
        },
        {"num_hidden_layers": 4, "projection_dim": 8},
        text_encoder={"num_hidden_layers": 3, "hidden_size": 6},
        vae={"block_out_channels": (4, 4, 8)},
        force_zeros_for_empty_prompt=False,
    ),
    "xl_odd": _xl(  # the statistics of latents, v-prediction, an odd embedding
        "DDIMScheduler",
        {
            "prediction_type": "v_prediction",
            "rescale_betas_zero_snr": True,
            "clip_sample": False,
            **_TRAILING,
        },
        {
            "block_out_channels": (6, 9),
            "attention_head_dim": [2, 3],
            "norm_num_groups": 3,
            "transformer_layers_per_block": [2, 1],
            "down_block_types": ("CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "CrossAttnUpBlock2D"),
            "addition_time_embed_dim": 5,
            "use_linear_projection": False,
        },
        {"hidden_size": 14, "projection_dim": 9, "num_attention_heads": 7, "eos_token_id": 2},
        text_encoder={"num_attention_heads": 4},
        vae={"latents_mean": [0.2, -0.4, 0.1, 0.3], "latents_std": [1.5, 2.0, 0.8, 1.2]},
    ),
    "xl_inpaint": _xl(
        "EulerDiscreteScheduler",
        _LEADING,
        {"in_channels": 9, "attention_head_dim": [2, 4], "layers_per_block": 2},
        {"projection_dim": 6},
    ),
    "xl_lcm": _xl(
        "LCMScheduler",
        {"original_inference_steps": 50},
        {"time_cond_proj_dim": 16, "transformer_layers_per_block": [1, 1]},
        {"num_hidden_layers": 3, "projection_dim": 7},
    ),
    "xl_turbo": _xl(  # as SDXL-Turbo
        "EulerAncestralDiscreteScheduler",
        _TRAILING,
        {"attention_head_dim": [2, 1]},
        {"projection_dim": 12, "intermediate_size": 13},
    ),
}


def _refiner(
    scheduler: str,
    schedule: Mapping[str, Any],
    unet: dict[str, Any],
    text_encoder_2: dict[str, Any],
    vae: dict[str, Any] | None = None,
    **options: bool,
) -> Recipe:
    """A recipe of SDXL's refiner, whose latents are those of "xl" unless `vae` differs."""
    blocks = {
        "block_out_channels": (4, 8, 8),
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D", "DownBlock2D"),
        "up_block_types": ("UpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        "transformer_layers_per_block": 2,
    }
    scored = {"requires_aesthetics_score": True, "force_zeros_for_empty_prompt": False}
    base = _xl(scheduler, schedule, blocks | unet, text_encoder_2, vae=vae)
    return replace(
        base,
        text_encoder=None,
        options=scored | options,
        pipeline="StableDiffusionXLImg2ImgPipeline",
    )


REFINERS: dict[str, Recipe] = {
    "refiner": _refiner(
        "EulerDiscreteScheduler",
        _LEADING,
        {"attention_head_dim": [1, 2, 2]},
        {"hidden_size": 12, "num_attention_heads": 3, "projection_dim": 12},
    ),
    "refiner_deep": _refiner(
        "DPMSolverMultistepScheduler",
        {"use_karras_sigmas": True},
        {"attention_head_dim": [2, 4, 4], "layers_per_block": 2},
        {"num_hidden_layers": 4, "projection_dim": 8},
        vae={"block_out_channels": (4, 4, 8)},  # as "xl_deep"
    ),
    "refiner_odd": _refiner(
        "DDIMScheduler",
        {"clip_sample": False, **_TRAILING},
        {
            "block_out_channels": (3, 6),
            "attention_head_dim": [1, 3],
            "norm_num_groups": 3,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "addition_time_embed_dim": 5,
            "transformer_layers_per_block": [1, 3],
        },
        {"hidden_size": 14, "projection_dim": 9, "num_attention_heads": 7},
    ),
    "refiner_zeros": _refiner(
        "EulerAncestralDiscreteScheduler",
        _LEADING,
        {"block_out_channels": (8, 8, 8), "attention_head_dim": 4},
        {"num_hidden_layers": 3, "projection_dim": 5},
        force_zeros_for_empty_prompt=True,
    ),
}

ALL = RECIPES | SD2 | XL | REFINERS
# Only these are exported with ControlNets: a refiner takes none, and each takes time.
CONTROLLED = (*RECIPES, "sd2_odd", *XL)
