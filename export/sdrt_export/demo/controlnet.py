"""The demo's ControlNetModel: an outline sets shape and place, the prompt the colours.

It is trained on a finished checkpoint, whose own networks do not change.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, ControlNetModel, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from sdrt_export.demo.denoising import (
    BATCH,
    CAPTIONS_PER_LATENT,
    Latents,
    draw_captioned,
    draw_noised,
    drawn_once,
    encode_captioned,
    v_prediction_loss,
)
from sdrt_export.demo.loop import Schedule, train
from sdrt_export.demo.outlines import (
    draw_figure,
    draw_figure_caption,
    draw_outline_image,
    draw_scene,
    image_of_figure,
)

FOLLOWING = Schedule(num_steps=3600, learning_rate=1e-3, num_warmup_steps=100)
NUM_FIGURES = 5_120  # for each process
OUTLINES_PER_FIGURE = 3


@dataclass(frozen=True)
class ControlledLatents(Latents):
    """The training set of one process."""

    outlines: torch.Tensor  # (n, outlines, 128, 128) uint8


def new_controlnet(unet: UNet2DConditionModel) -> ControlNetModel:
    """A ControlNet of 1.5 M parameters, initialised from the UNet's encoder, without effect yet.

    It has attention only in the middle block: colours come from the UNet, and the demo must stay
    small.
    """
    config = unet.config
    controlnet = ControlNetModel(
        in_channels=config.in_channels,
        conditioning_channels=3,
        conditioning_embedding_out_channels=(8, 16, 32, 64),
        down_block_types=("DownBlock2D",) * 3,
        block_out_channels=config.block_out_channels,
        layers_per_block=config.layers_per_block,
        cross_attention_dim=config.cross_attention_dim,
        attention_head_dim=config.attention_head_dim,
        norm_num_groups=config.norm_num_groups,
    )
    own, theirs = controlnet.state_dict(), unet.state_dict()
    shared = {name: theirs[name] for name in own if name in theirs}
    controlnet.load_state_dict(shared, strict=False)
    return controlnet


def latents_of_figures(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, work: Path, num_figures: int = NUM_FIGURES
) -> ControlledLatents:
    """This process's training set, drawn and encoded once, then kept in `work`."""

    def encode(rng: np.random.Generator) -> tuple[torch.Tensor, ...]:
        pairs = [(draw_figure(rng), draw_scene(rng)) for _ in range(BATCH)]
        images = [image_of_figure(*pair) for pair in pairs]
        masks = [figure.mask for figure, _ in pairs]
        captions = [
            draw_figure_caption(*pair, rng) for pair in pairs for _ in range(CAPTIONS_PER_LATENT)
        ]
        outlines = [
            [draw_outline_image(figure, rng) for _ in range(OUTLINES_PER_FIGURE)]
            for figure, _ in pairs
        ]
        encoded = encode_captioned(vae, tokenizer, images, masks, captions)
        return *encoded, torch.from_numpy(np.stack(outlines))

    path = work / "controlled-latents"
    return ControlledLatents(*drawn_once(path, encode, num_figures // BATCH, seed=2))


def train_controlnet(
    controlnet: ControlNetModel,
    unet: UNet2DConditionModel,
    encoder: CLIPTextModel,
    latents: ControlledLatents,
    empty: torch.Tensor,
    work: Path,
    schedule: Schedule = FOLLOWING,
) -> ControlNetModel:
    """Trains the ControlNet only, or resumes the run in `work`; `empty` (1, 32) is the empty
    caption.
    """
    unet.requires_grad_(False)

    def loss_at(step: int, rng: np.random.Generator) -> torch.Tensor:
        chosen, tokens = draw_captioned(latents, empty, rng)
        lines = latents.outlines[chosen, rng.integers(OUTLINES_PER_FIGURE, size=len(chosen))]
        control = (lines.float() / 255)[:, None].expand(-1, 3, -1, -1)  # (B, 3, 128, 128)
        noised = draw_noised(latents.samples[chosen], rng)
        with torch.no_grad():
            context = encoder(tokens).last_hidden_state  # (B, 32, 96)
        down, mid = controlnet(noised.x_t, noised.t, context, control, return_dict=False)
        v = unet(
            noised.x_t,
            noised.t,
            context,
            down_block_additional_residuals=down,
            mid_block_additional_residual=mid,
        ).sample
        return v_prediction_loss(v, noised, latents.weights[chosen])

    return train("ControlNet", controlnet, loss_at, schedule, work / "controlnet.pt")
