"""Trains the demo model from scratch.

    torchrun --nproc-per-node 2 -m sdrt_export.demo.train WORK CHECKPOINT

runs one process per core. Every stage keeps its state in WORK and resumes from there after an
interruption. CHECKPOINT becomes a diffusers folder with fp16 weights, ready for `sdrt export`.
With `--only-controlnet` CHECKPOINT is a finished one, and only its ControlNet is trained.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import torch
import torch.distributed
from diffusers import AutoencoderKL, StableDiffusionPipeline, UNet2DConditionModel
from transformers import CLIPTextModel, CLIPTokenizer

from sdrt_export.demo.controlnet import latents_of_figures, new_controlnet, train_controlnet
from sdrt_export.demo.denoising import new_scheduler
from sdrt_export.demo.loop import rank, rank_zero_first
from sdrt_export.demo.text import (
    make_tokenizer,
    new_text_encoder,
    tokens_from_captions,
    train_to_read,
)
from sdrt_export.demo.unet import latents_of_scenes, new_unet, train_unet
from sdrt_export.demo.vae import train_vae
from sdrt_export.exporting import DEFAULTS_NAME

CONTROLNET = "controlnet_edges"  # its folder next to the UNet's
# High guidance over-exposes images of models trained down to pure noise.
DEFAULTS = {"guidance_scale": 2.0, "num_inference_steps": 20}


def train_demo(work: Path, checkpoint: Path) -> None:
    """All stages: autoencoder, tokenizer, text encoder, then UNet and text encoder together."""
    torch.manual_seed(0)
    vae = _trained_vae(work)
    with rank_zero_first():
        tokenizer = make_tokenizer(work / "tokenizer")
    encoder = train_to_read(new_text_encoder(tokenizer), tokenizer, work)
    latents = latents_of_scenes(vae, tokenizer, work)
    empty = tokens_from_captions(tokenizer, [""])
    unet, encoder = train_unet(
        new_unet(), encoder.train().requires_grad_(True), latents, empty, work
    )
    with rank_zero_first():
        if rank() == 0:
            save_checkpoint(checkpoint, vae, tokenizer, encoder, unet)
    train_control(work, checkpoint)


def train_control(work: Path, checkpoint: Path) -> None:
    """The ControlNet, for the fp16 weights in `checkpoint`."""
    torch.manual_seed(0)
    vae = AutoencoderKL.from_pretrained(checkpoint / "vae").float()
    unet = UNet2DConditionModel.from_pretrained(checkpoint / "unet").float()
    encoder = CLIPTextModel.from_pretrained(checkpoint / "text_encoder").float()
    tokenizer = CLIPTokenizer.from_pretrained(checkpoint / "tokenizer")
    latents = latents_of_figures(vae, tokenizer, work)
    empty = tokens_from_captions(tokenizer, [""])
    controlnet = train_controlnet(new_controlnet(unet), unet, encoder, latents, empty, work)
    if rank() == 0:
        controlnet.half().save_pretrained(checkpoint / CONTROLNET)


def save_checkpoint(
    folder: Path,
    vae: AutoencoderKL,
    tokenizer: CLIPTokenizer,
    encoder: CLIPTextModel,
    unet: torch.nn.Module,
) -> None:
    """Writes a diffusers checkpoint with fp16 safetensors."""
    pipeline = StableDiffusionPipeline(
        vae=vae,
        text_encoder=encoder,
        tokenizer=tokenizer,
        unet=unet,
        scheduler=new_scheduler(),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    pipeline.to(torch.float16).save_pretrained(folder)
    (folder / DEFAULTS_NAME).write_text(json.dumps(DEFAULTS) + "\n", encoding="utf-8")


def _trained_vae(work: Path) -> AutoencoderKL:
    if (work / "vae").exists():
        return AutoencoderKL.from_pretrained(work / "vae")
    vae = train_vae(work)
    if rank() == 0:
        vae.save_pretrained(work / "vae")
    return vae


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("work", type=Path, help="folder for the state of the training")
    parser.add_argument("checkpoint", type=Path, help="folder for the finished checkpoint")
    parser.add_argument("--only-controlnet", action="store_true", help="for an existing checkpoint")
    arguments = parser.parse_args()
    if torch.distributed.is_torchelastic_launched():
        torch.distributed.init_process_group("gloo")
        torch.set_num_threads(1)
    stages = train_control if arguments.only_controlnet else train_demo
    stages(arguments.work, arguments.checkpoint)


if __name__ == "__main__":
    main()
