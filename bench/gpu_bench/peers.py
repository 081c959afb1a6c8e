"""The peers of sdrt: diffusers on PyTorch, eager and compiled."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import cache
from typing import Any

import torch
from diffusers import EulerDiscreteScheduler, StableDiffusionPipeline
from transformers import CLIPTokenizer

from gpu_bench.context import Context
from gpu_bench.networks import architecture, load_modules

PROMPT, GUIDANCE = "a red circle", 7.5


def diffusers_pipeline(context: Context) -> Any:
    """diffusers' pipeline in float16, channels last, with PyTorch's fused attention."""
    sizes = architecture(context.small)
    modules = load_modules(sizes, context.work, context.device)
    scheduler = EulerDiscreteScheduler.from_pretrained(context.work / "scheduler")
    for name in ("unet", "vae"):
        modules[name].to(memory_format=torch.channels_last)
    modules["text_encoder"].set_attn_implementation("sdpa")
    pipeline = StableDiffusionPipeline(
        vae=modules["vae"],
        text_encoder=modules["text_encoder"],
        tokenizer=CLIPTokenizer.from_pretrained(context.work / "tokenizer"),
        unet=modules["unet"],
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    if context.small:
        pipeline.to(dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    return pipeline


@cache
def compiled_pipeline(context: Context) -> Any:
    """Another one, with its UNet and VAE decoder compiled, CUDA graphs included."""
    pipeline = diffusers_pipeline(context)
    how: dict[str, Any] = {"backend": "eager"} if context.small else {"mode": "reduce-overhead"}
    pipeline.unet = torch.compile(pipeline.unet, fullgraph=True, **how)
    pipeline.vae.decode = torch.compile(pipeline.vae.decode, fullgraph=True, **how)
    return pipeline


def unet_step(context: Context, pipeline: Any, batch: int, latents: int) -> Callable[[Any], Any]:
    """A function that calls a UNet with the arguments that the pipeline passes to it."""
    kept: dict[str, Any] = {}

    def keep(module: Any, arguments: Any, keywords: Any) -> None:
        kept.update(arguments=arguments, keywords=keywords)

    hook = pipeline.unet.register_forward_pre_hook(keep, with_kwargs=True)
    generate(pipeline, batch, latents * 8, 1)
    hook.remove()

    @torch.no_grad()
    def step(unet: Any) -> Any:
        return unet(*kept["arguments"], **kept["keywords"])[0]

    return step


def generate(pipeline: Any, batch: int, size: int, steps: int, **how: Any) -> Any:
    """Images of one prompt with seeds 0, 1, …

    The noise is float32's: in float16, torch 2.11 returns other numbers from the same generator.
    """
    seeds = [torch.Generator("cpu").manual_seed(seed) for seed in range(batch)]
    noise = [torch.randn((1, 4, size // 8, size // 8), generator=seed) for seed in seeds]
    return pipeline(
        [PROMPT] * batch,
        latents=torch.cat(noise).to(pipeline.text_encoder.dtype),
        height=size,
        width=size,
        num_inference_steps=steps,
        guidance_scale=GUIDANCE,
        **how,
    )


def milliseconds(context: Context, step: Callable[[], Any], runs: int) -> list[float]:
    """The time of each of `runs` calls, each finished before the next begins."""
    values = []
    for _ in range(runs):
        start = time.perf_counter()
        step()
        wait(context)
        values.append((time.perf_counter() - start) * 1000)
    return values


def wait(context: Context) -> None:
    if not context.small:
        torch.cuda.synchronize()


def memory_used(context: Context) -> float:
    """GiB in use on the card by all processes."""
    if context.small:
        return 0.0
    free, total = torch.cuda.mem_get_info()
    return (total - free) / 2**30
