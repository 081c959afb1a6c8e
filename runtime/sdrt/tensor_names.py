"""The names of networks and their tensors: optimum's, written once.

Shapes: B batch, L tokens, D width of the text encoder, C latent channels, (h, w) latent size,
(H, W) image size.
"""

from __future__ import annotations

from typing import Final

# The networks: names of their folders inside a bundle.
TEXT_ENCODER: Final = "text_encoder"
TEXT_ENCODER_2: Final = "text_encoder_2"
UNET: Final = "unet"
VAE_DECODER: Final = "vae_decoder"
VAE_ENCODER: Final = "vae_encoder"
TINY_VAE_DECODER: Final = "vae_decoder_tiny"
TINY_VAE_ENCODER: Final = "vae_encoder_tiny"
# The same UNet with the same weights, and with the residuals of ControlNets as inputs.
UNET_CONTROLLED: Final = "unet_controlled"

# Text encoder
INPUT_IDS: Final = "input_ids"  # (B, L) int64
LAST_HIDDEN_STATE: Final = "last_hidden_state"  # (B, L, D)
POOLER_OUTPUT: Final = "pooler_output"  # (B, D)

# UNet
SAMPLE: Final = "sample"  # UNet: (B, C, h, w); VAE encoder's input, decoder's output: (B, 3, H, W)
TIMESTEP: Final = "timestep"  # (B,) float32; a scalar in optimum's own folders
ENCODER_HIDDEN_STATES: Final = "encoder_hidden_states"  # (B, L, D)
TIMESTEP_COND: Final = "timestep_cond"  # (B, K): the guidance embedding of distilled UNets (LCM)
TEXT_EMBEDS: Final = "text_embeds"  # (B, D): SDXL's pooled vector, an output of text_encoder_2
TIME_IDS: Final = "time_ids"  # (B, K): SDXL's numbers about the image
OUT_SAMPLE: Final = "out_sample"  # (B, C, h, w)

# VAE
LATENT_SAMPLE: Final = "latent_sample"  # (B, C, h, w), already divided by the scaling factor
LATENT_PARAMETERS: Final = "latent_parameters"  # (B, 2C, h, w): mean and log-variance
LATENTS: Final = "latents"  # (B, C, h, w), from an encoder without a distribution (TAESD)

# ControlNet: takes the UNet's inputs, and an image in 0..1. Its N outputs are the controlled UNet's
# inputs of the same names: its residuals, scaled, and added to those of the nets before it.
CONTROLNET_COND: Final = "controlnet_cond"  # (B, K, H, W)
CONDITIONING_SCALE: Final = "conditioning_scale"  # (B, N): the factor of each residual
MID_BLOCK_RESIDUAL: Final = "mid_block_residual"  # (B, C_mid, h_mid, w_mid)

_REFINER = "refiner."
_EARLIER = "earlier."
_DOWN_BLOCK_RESIDUALS = "down_block_residuals."
_CONTROLNET = "controlnet_"


def of_refiner(name: str) -> str:
    """The name that a pipeline gives to a component or a folder of its refiner."""
    return f"{_REFINER}{name}"


def in_refiner(name: str) -> str | None:
    """The inverse of `of_refiner`; None for another name."""
    own = name.removeprefix(_REFINER)
    return None if own == name else own


def down_block_residual(index: int) -> str:
    """ControlNet: the term added to the UNet's skip connection `index`, (B, C_i, h_i, w_i)."""
    return f"{_DOWN_BLOCK_RESIDUALS}{index}"


def earlier(residual: str) -> str:
    """ControlNet: the input for the residuals of the nets before it; zeros for the first."""
    return f"{_EARLIER}{residual}"


def is_residual(name: str) -> bool:
    """True if a tensor is a ControlNet's output, for the UNet or for the next net."""
    residual = name.removeprefix(_EARLIER)
    return residual == MID_BLOCK_RESIDUAL or residual.startswith(_DOWN_BLOCK_RESIDUALS)


def controlnet(name: str) -> str:
    """The network of the ControlNet that users call `name`."""
    return f"{_CONTROLNET}{name}"


def controlnet_of(component: str) -> str:
    """The user's name for the ControlNet whose network has that name."""
    return component.removeprefix(_CONTROLNET)


def hidden_state(index: int) -> str:
    """Text encoder: the embeddings (0) or the output of layer `index`, (B, L, D)."""
    return f"hidden_states.{index}"


def normed_hidden_state(index: int) -> str:
    """Text encoder: the same after the final layer norm, as for diffusers' `clip_skip`."""
    return f"normed_hidden_states.{index}"
