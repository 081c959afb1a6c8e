"""Agreement with PyTorch on the same GPU, stage by stage: text, a step, decoding, latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from gpu_bench.context import Context
from gpu_bench.images import generate_images, sdrt_pipeline
from gpu_bench.peers import GUIDANCE, PROMPT, diffusers_pipeline, generate
from gpu_bench.sessions import BEST, latents_at, open_variant, psnr
from gpu_bench.steps import unet_feeds


def agreement(context: Context) -> None:
    """Both in float16, on equal inputs. Shows which stage differs, not only that the image does."""
    context.await_export()
    eager = diffusers_pipeline(context)
    for stage in (_text, _step, _decoding, _latents):
        context.attempt(f"agreement{stage.__name__}", lambda s=stage: s(context, eager))


def _text(context: Context, eager: Any) -> None:
    ids = eager.tokenizer(
        ["", PROMPT], padding="max_length", max_length=77, truncation=True, return_tensors="pt"
    ).input_ids
    with torch.no_grad():
        expected = eager.text_encoder(ids.to(context.device))[0]
    with open_variant(context.work, BEST, "text_encoder", context.device) as engine:
        got = engine.run({"input_ids": ids.numpy()}, ["last_hidden_state"])["last_hidden_state"]
    context.add("agreement with PyTorch, text", "dB", [psnr(_host(expected), got)])


def _step(context: Context, eager: Any) -> None:
    feeds = unet_feeds(context, 2)
    with torch.no_grad():
        sample, text = (_device(context, feeds[n]) for n in ("sample", "encoder_hidden_states"))
        timestep = torch.from_numpy(feeds["timestep"]).to(context.device)
        expected = _host(eager.unet(sample, timestep, encoder_hidden_states=text)[0])
    with open_variant(context.work, BEST, "unet", context.device) as engine:
        pinned = engine.pin("encoder_hidden_states", feeds["encoder_hidden_states"])
        for title, case in (("", feeds), (", pinned", feeds | {"encoder_hidden_states": pinned})):
            values = [psnr(expected, engine.run(case)["out_sample"]) for _ in range(4)]
            context.add(f"agreement with PyTorch, UNet{title}", "dB", values, least=min(values))


def _decoding(context: Context, eager: Any) -> None:
    size = latents_at(context)
    for scale in (1, 100):  # the range of early latents
        latents = scale * np.random.default_rng(0).standard_normal((1, 4, size, size), np.float32)
        with torch.no_grad():
            expected = _host(eager.vae.decode(_device(context, latents)).sample)
        with open_variant(context.work, BEST, "vae_decoder", context.device) as engine:
            got = [engine.run({"latent_sample": latents})["sample"] for _ in range(3)]
        values = [psnr(expected, array) for array in got]
        context.add(f"agreement with PyTorch, VAE, latents ×{scale}", "dB", values)


def _latents(context: Context, eager: Any) -> None:
    size = latents_at(context)
    with sdrt_pipeline(context, BEST) as pipeline:
        for steps in (1, 5, 20, 50):
            expected = generate(eager, 1, size * 8, steps, output_type="latent").images
            got = generate_images(context, "sdrt", pipeline, 1, steps).latents
            context.add(
                f"agreement with PyTorch, latents after {steps} steps",
                "dB",
                [psnr(_host(expected), got)],
                largest=round(float(np.abs(got).max()), 1),
                guidance=GUIDANCE,
            )


def _device(context: Context, array: np.ndarray) -> torch.Tensor:
    dtype = torch.float32 if context.small else torch.float16
    return torch.from_numpy(array).to(context.device, dtype)


def _host(tensor: torch.Tensor) -> np.ndarray:
    return tensor.float().cpu().numpy()
