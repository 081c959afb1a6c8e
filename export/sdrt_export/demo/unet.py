"""The demo's UNet2DConditionModel, trained with its text encoder on latents of drawn scenes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, UNet2DConditionModel
from torch import nn
from transformers import CLIPTextModel, CLIPTokenizer

from sdrt_export.demo.denoising import (
    BATCH,
    CAPTIONS_PER_LATENT,
    LATENT_SIZE,
    Latents,
    draw_captioned,
    draw_noised,
    drawn_once,
    encode_captioned,
    v_prediction_loss,
)
from sdrt_export.demo.drawing import draw_shift, image_from_scene, mask_from_scene
from sdrt_export.demo.grammar import ALL_SCENES, draw_caption
from sdrt_export.demo.loop import Schedule, train
from sdrt_export.demo.text import HIDDEN_SIZE

DENOISING = Schedule(num_steps=2400, learning_rate=1e-3, num_warmup_steps=200)
NUM_LATENTS = 4_992  # for each process


def new_unet() -> UNet2DConditionModel:
    """The untrained UNet, 4.5 M parameters; attention from 8×8 down."""
    return UNet2DConditionModel(
        sample_size=LATENT_SIZE,
        in_channels=4,
        out_channels=4,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        block_out_channels=(48, 96, 112),
        layers_per_block=1,
        cross_attention_dim=HIDDEN_SIZE,
        attention_head_dim=4,  # the number of heads, despite its name
        norm_num_groups=8,
    )


def latents_of_scenes(vae: AutoencoderKL, tokenizer: CLIPTokenizer, work: Path) -> Latents:
    """This process's training set, drawn and encoded once, then kept in `work`."""

    def encode(rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        scenes = [ALL_SCENES[i] for i in rng.integers(len(ALL_SCENES), size=BATCH)]
        shifts = [draw_shift(rng) for _ in scenes]
        images = list(map(image_from_scene, scenes, shifts))
        masks = list(map(mask_from_scene, scenes, shifts))
        captions = [
            draw_caption(scene, rng) for scene in scenes for _ in range(CAPTIONS_PER_LATENT)
        ]
        return encode_captioned(vae, tokenizer, images, masks, captions)

    return Latents(*drawn_once(work / "latents", encode, NUM_LATENTS // BATCH, seed=1))


def train_unet(
    unet: UNet2DConditionModel,
    encoder: CLIPTextModel,
    latents: Latents,
    empty: torch.Tensor,
    work: Path,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Trains both, or resumes the run in `work`; `empty` (1, 32) is the empty caption."""

    def loss_at(step: int, rng: np.random.Generator) -> torch.Tensor:
        chosen, tokens = draw_captioned(latents, empty, rng)
        noised = draw_noised(latents.samples[chosen], rng)
        context = encoder(tokens).last_hidden_state  # (B, 32, 96)
        v = unet(noised.x_t, noised.t, context).sample
        return v_prediction_loss(v, noised, latents.weights[chosen])

    both = nn.ModuleDict({"unet": unet, "text_encoder": encoder})
    average = train("UNet", both, loss_at, DENOISING, work / "unet.pt")
    return average["unet"], average["text_encoder"]
