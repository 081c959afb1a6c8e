"""Whole images: sdrt and diffusers, in one process, one after another, in rounds."""

from __future__ import annotations

import time
from collections import defaultdict
from typing import Any

import numpy as np

from gpu_bench.context import Context
from gpu_bench.peers import (
    GUIDANCE,
    PROMPT,
    compiled_pipeline,
    diffusers_pipeline,
    generate,
    wait,
)
from gpu_bench.sessions import BEST, Variant, latents_at, open_variant, psnr, without_graph
from sdrt_engines import Array, Engine

STEPS, ROUNDS = 50, 3


def images(context: Context) -> None:
    """Whole images by sdrt and by diffusers, in one process, one after another, in rounds."""
    context.await_export()
    for batch in (1, 8):
        context.attempt(f"images, batch {batch}", lambda b=batch: _images(context, b))


def _images(context: Context, batch: int) -> None:
    contestants: dict[str, Any] = {
        "sdrt cuda": sdrt_pipeline(context, BEST),
        "diffusers eager": diffusers_pipeline(context),
    }
    if batch == 1:
        contestants["sdrt cuda, no CUDA graph"] = sdrt_pipeline(context, without_graph(BEST))
        contestants["diffusers compiled"] = compiled_pipeline(context)
    times: dict[str, list[float]] = defaultdict(list)
    notes: dict[str, Any] = {}
    images: dict[str, Array] = {}
    for name, pipeline in contestants.items():
        generate_images(context, name, pipeline, batch, 3)
        wait(context)
    for _ in range(ROUNDS if batch == 1 else 2):
        for name, pipeline in contestants.items():
            start = time.perf_counter()
            result = generate_images(context, name, pipeline, batch, 2 if context.small else STEPS)
            wait(context)
            times[name].append(time.perf_counter() - start)
            images[name] = np.asarray(result.images[0])
            if name.startswith("sdrt"):
                notes[name] = _stages(result, batch)
    for name, values in times.items():
        context.add(
            f"image 512², {STEPS} steps, batch {batch}, {name}",
            "s",
            values,
            psnr_to_eager=round(psnr(images["diffusers eager"], images[name]), 1),
            **notes.get(name, {}),
        )


def sdrt_pipeline(context: Context, variant: Variant) -> Any:
    """A pipeline with the variant's engines."""
    import sdrt
    from sdrt_engines import resolve_target

    engines: dict[str, Engine] = {
        name: open_variant(context.work, variant, name, context.device)
        for name in ("text_encoder", "unet", "vae_decoder")
    }
    bundle = sdrt.Bundle.open(context.work)
    return sdrt.Pipeline(bundle, resolve_target("cpu"), engines, text_cache=0)


def generate_images(context: Context, name: str, pipeline: Any, batch: int, steps: int) -> Any:
    size = latents_at(context) * 8
    if name.startswith("sdrt"):
        return pipeline(
            PROMPT,
            seed=0,
            num_images_per_prompt=batch,
            scheduler="euler",
            height=size,
            width=size,
            num_inference_steps=steps,
            guidance_scale=GUIDANCE,
        )
    return generate(pipeline, batch, size, steps)


def _stages(result: Any, batch: int) -> dict[str, Any]:
    seconds, host = result.timings.seconds, result.timings.host
    steps = result.request.num_inference_steps
    return {
        "steps per second": round(steps / (seconds["denoiser"] + host), 1),
        "unet ms": round(seconds["denoiser"] / steps * 1000, 3),
        "host ms per step": round(host / steps * 1000, 3),
        "text ms": round(seconds["text_encoder"] * 1000, 1),
        "vae ms": round(seconds["vae_decoder"] / batch * 1000, 1),
    }
