"""The time of a UNet step: by PyTorch, by each variant of our graph, by the number of rows."""

from __future__ import annotations

import time
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np

from gpu_bench.context import Context
from gpu_bench.networks import feeds_for, latents_of, write_with
from gpu_bench.peers import (
    compiled_pipeline,
    diffusers_pipeline,
    generate,
    memory_used,
    milliseconds,
    unet_step,
)
from gpu_bench.sessions import (
    BEST,
    TF32,
    Variant,
    latents_at,
    model_of,
    open_variant,
    psnr,
    with_options,
    without_graph,
)
from sdrt_engines import Array, signature_from_onnx
from sdrt_export.fusing import fused_graph
from sdrt_export.fusing.norm_fusions import fuse_skip_group_norm
from sdrt_export.fusing.product_fusions import fuse_attention, merge_projections


def peers(context: Context) -> None:
    """PyTorch alone: a UNet step, eager and compiled."""
    eager = diffusers_pipeline(context)
    runs, size = 3 if context.small else 50, latents_at(context)
    for batch in (1,) if context.small else (1, 8):
        step = unet_step(context, eager, batch, size)
        _time_peer(
            context, f"diffusers eager, {2 * batch} rows", lambda s=step: s(eager.unet), runs
        )
    step = unet_step(context, eager, 1, size)
    start = time.perf_counter()
    pipeline = compiled_pipeline(context)
    generate(pipeline, 1, size * 8, 3)
    context.add("diffusers compiled: UNet and VAE", "s", [time.perf_counter() - start])
    _time_peer(context, "diffusers compiled, 2 rows", lambda: step(pipeline.unet), runs)


def _time_peer(context: Context, title: str, step: Any, runs: int) -> None:
    milliseconds(context, step, 3)
    values = milliseconds(context, step, runs)
    context.add(f"UNet step, {title}", "ms", values, least=round(min(values), 3))


NO_SKIP_NORM = tuple(p for p in fused_graph.PASSES if p is not fuse_skip_group_norm)
NO_MERGING = tuple(p for p in fused_graph.PASSES if p is not merge_projections)
PASSES = {"attention": (fuse_attention,), "apart": NO_MERGING, "no_skip_norm": NO_SKIP_NORM}
VARIANTS = (
    BEST,
    replace(BEST, name="fused, projections apart", kind="apart"),
    without_graph(BEST),
    with_options(BEST, "fused, fuse_conv_bias", fuse_conv_bias="1"),
    with_options(BEST, "fused, flash attention", sdpa_kernel="0"),
    with_options(BEST, "fused, HEURISTIC", cudnn_conv_algo_search="HEURISTIC"),
    with_options(BEST, "fused, strict norm", enable_skip_layer_norm_strict_mode="1"),
    replace(BEST, name="fused but SkipGroupNorm", kind="no_skip_norm"),
    replace(BEST, name="attention alone", kind="attention"),
    Variant("half", "half", TF32),
    Variant("half, no TF32", "half", cuda_graph=False),
)


def variants(context: Context) -> None:
    """A UNet step of two rows in every variant, and its distance from float32."""
    chosen = [v for v in VARIANTS if not context.variants or v.name in context.variants]
    for kind in {variant.kind for variant in chosen} & PASSES.keys():
        write_with(context.work, "unet", kind, PASSES[kind])
    feeds = unet_feeds(context, 2)
    exact = Variant("float32", "", cuda_graph=False)
    with open_variant(context.work, exact, "unet", context.device) as engine:
        expected = engine.run(feeds)["out_sample"]
    for variant in chosen:
        context.attempt(
            f"UNet step, {variant.name}", lambda v=variant: _time(context, v, feeds, expected)
        )


def unet_feeds(context: Context, rows: int, seed: int = 0, latents: int = 64) -> dict[str, Array]:
    """Seeded inputs of the UNet."""
    signature = signature_from_onnx(model_of(context.work, "half", "unet"))
    sizes = latents_of("unet", latents_at(context, latents), rows)
    return feeds_for(signature, sizes, seed)


def _time(
    context: Context, variant: Variant, feeds: dict[str, Array], expected: Array, runs: int = 30
) -> None:
    start = time.perf_counter()
    with open_variant(context.work, variant, "unet", context.device) as engine:
        opened = time.perf_counter() - start
        engine.run(feeds)
        first = time.perf_counter() - start - opened
        got = engine.run(feeds)["out_sample"]
        (once,) = milliseconds(context, lambda: engine.run(feeds), 1)
        values = milliseconds(context, lambda: engine.run(feeds), runs if once < 60 else 3)
        context.add(
            f"UNet step, {variant.name}, {len(got)} rows",
            "ms",
            values,
            psnr=round(psnr(expected, got), 1),
            least=round(min(values), 3),
            opened_in=f"{opened:.1f} s",
            first=f"{first:.1f} s",
            memory=f"{memory_used(context):.1f} GiB",
        )


def rows(context: Context) -> None:
    """A step of the fused UNet by the number of rows: the basis for planning batches."""
    found: list[tuple[int, float]] = []
    with open_variant(context.work, BEST, "unet", context.device) as engine:
        for count in (1, 2) if context.small else (1, 2, 4, 8, 16, 32):
            feeds = unet_feeds(context, count)
            for _ in range(2):
                engine.run(feeds)
            values = milliseconds(
                context, lambda f=feeds: engine.run(f), 3 if context.small else 12
            )
            found.append((count, median(values)))
            context.add(
                f"UNet step, fused, {count} rows",
                "ms",
                values,
                per_row=round(median(values) / count, 3),
                memory=f"{memory_used(context):.1f} GiB",
            )
    slope, base = np.polyfit(*zip(*found, strict=True), 1)
    context.add("UNet step, cost of a row", "ms", [slope], base_ms=round(float(base), 3))
