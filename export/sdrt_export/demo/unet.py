"""The demo's UNet2DConditionModel, trained with its text encoder on latents of drawn scenes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL, DDIMScheduler, UNet2DConditionModel
from torch import nn
from torch.nn import functional
from transformers import CLIPTextModel, CLIPTokenizer

from sdrt_export.demo.drawing import draw_shift, mask_from_scene, picture_from_scene
from sdrt_export.demo.grammar import ALL_SCENES, draw_caption
from sdrt_export.demo.loop import Schedule, num_processes, rank, train
from sdrt_export.demo.text import HIDDEN_SIZE, tokens_from_captions
from sdrt_export.demo.vae import tensor_from_pictures

LATENT_SIZE = 16
DENOISING = Schedule(num_steps=2400, learning_rate=1e-3, num_warmup_steps=200)
BATCH = 64
NUM_LATENTS = 4_992  # for each process
CAPTIONS_PER_LATENT = 4
CAPTION_DROPOUT = 0.1  # the share of empty captions, for classifier-free guidance
SHAPE_WEIGHT = 4.0  # how much more a latent cell counts where the shape lies
NOISY_BIAS = 0.6  # exponent; below 1 trains more at high noise, where the attributes are decided


@dataclass(frozen=True)
class Latents:
    """The training set of one process."""

    samples: torch.Tensor  # (n, 4, 16, 16)
    weights: torch.Tensor  # (n, 1, 16, 16), of each latent cell in the loss
    tokens: torch.Tensor  # (n, captions, 32)


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
        attention_head_dim=4,  # the number of heads, whatever its name says
        norm_num_groups=8,
    )


def new_scheduler() -> DDIMScheduler:
    """v-prediction down to pure noise: colours and places are then learnt from the text alone at
    the first step.
    """
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
    )


def latents_of_scenes(vae: AutoencoderKL, tokenizer: CLIPTokenizer, work: Path) -> Latents:
    """This process's training set, drawn and encoded once and then kept in ``work``."""
    path = work / f"latents-{rank()}-of-{num_processes()}.pt"
    if not path.exists():
        rng = np.random.default_rng([1, rank()])
        batches = [_encode_scenes(vae, tokenizer, rng) for _ in range(NUM_LATENTS // BATCH)]
        torch.save([torch.cat(parts) for parts in zip(*batches, strict=True)], path)
    return Latents(*torch.load(path, weights_only=True))


@torch.no_grad()
def _encode_scenes(
    vae: AutoencoderKL, tokenizer: CLIPTokenizer, rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Samples, weights and tokens of one batch of scenes."""
    scenes = [ALL_SCENES[i] for i in rng.integers(len(ALL_SCENES), size=BATCH)]
    shifts = [draw_shift(rng) for _ in scenes]
    pictures = np.stack(list(map(picture_from_scene, scenes, shifts)))
    masks = torch.from_numpy(np.stack(list(map(mask_from_scene, scenes, shifts))))
    cells = functional.adaptive_max_pool2d(masks, LATENT_SIZE)[:, None]  # (B, 1, 16, 16)
    captions = [draw_caption(scene, rng) for scene in scenes for _ in range(CAPTIONS_PER_LATENT)]
    return (
        vae.encode(tensor_from_pictures(pictures)).latent_dist.mode(),
        1 + SHAPE_WEIGHT * cells,
        tokens_from_captions(tokenizer, captions).view(BATCH, CAPTIONS_PER_LATENT, -1),
    )


def train_unet(
    unet: UNet2DConditionModel,
    encoder: CLIPTextModel,
    latents: Latents,
    empty: torch.Tensor,
    work: Path,
) -> tuple[UNet2DConditionModel, CLIPTextModel]:
    """Trains both, or goes on with the run in ``work``; ``empty`` (1, 32) is the empty caption."""
    scheduler = new_scheduler()
    signal = scheduler.alphas_cumprod.sqrt()  # (1000,)
    noisiness = (1 - scheduler.alphas_cumprod).sqrt()
    share = BATCH // num_processes()

    def loss_at(step: int, rng: np.random.Generator) -> torch.Tensor:
        chosen = rng.integers(len(latents.samples), size=share)
        x0 = latents.samples[chosen]  # (B, 4, 16, 16)
        tokens = latents.tokens[chosen, rng.integers(CAPTIONS_PER_LATENT, size=share)]
        tokens[rng.random(share) < CAPTION_DROPOUT] = empty
        t = torch.from_numpy((1000 * rng.random(share) ** NOISY_BIAS).astype(np.int64))
        a, s = signal[t, None, None, None], noisiness[t, None, None, None]
        eps = torch.from_numpy(rng.standard_normal(x0.shape, dtype=np.float32))
        context = encoder(tokens).last_hidden_state  # (B, 32, 96)
        v = unet(a * x0 + s * eps, t, context).sample
        weights = latents.weights[chosen]
        return (weights * (v - (a * eps - s * x0)) ** 2).mean() / weights.mean()

    both = nn.ModuleDict({"unet": unet, "text_encoder": encoder})
    average = train("UNet", both, loss_at, DENOISING, work / "unet.pt")
    return average["unet"], average["text_encoder"]
