"""Correctness: compared with the CPU, with PyTorch on the same GPU, and with itself."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from gpu_bench.context import Context
from gpu_bench.images import sdrt_pipeline
from gpu_bench.networks import feeds_for, latents_of
from gpu_bench.sessions import (
    BEST,
    REFERENCE_LATENTS,
    TF32,
    Variant,
    latents_at,
    model_of,
    open_variant,
    psnr,
    without_graph,
)
from gpu_bench.steps import unet_feeds
from sdrt_engines import Array, signature_from_onnx


def correctness(context: Context) -> None:
    """Every network on the GPU, compared with the CPU in float32."""
    context.await_export()
    for name in context.networks:
        for variant in (
            Variant("as exported, float32", "", cuda_graph=False),
            Variant("half", "half", TF32, cuda_graph=False),
            BEST,
        ):
            title = f"{name}, {variant.name}"
            context.attempt(title, lambda n=name, v=variant, t=title: _compare(context, n, v, t))


def _compare(context: Context, name: str, variant: Variant, title: str) -> None:
    start = time.perf_counter()
    latents = latents_at(context, REFERENCE_LATENTS)
    signature = signature_from_onnx(model_of(context.work, variant.kind, name))
    feeds = feeds_for(signature, latents_of(name, latents, 2))
    expected = np.load(context.work / f"expected/{name}.npz")
    with open_variant(context.work, variant, name, context.device) as engine:
        opened = time.perf_counter() - start
        got = [engine.run(feeds) for _ in range(3)][-1]  # the third is a replay
    worst = min(expected.files, key=lambda key: psnr(expected[key], got[key]))
    context.add(
        f"{title}, PSNR",
        "dB",
        [psnr(expected[worst], got[worst])],
        output=worst,
        max_error=float(np.nan_to_num(np.abs(expected[worst] - got[worst])).max()),
        num_non_finite=int(sum(np.count_nonzero(~np.isfinite(a)) for a in got.values())),
        opened_in=f"{opened:.1f} s",
    )


def alternating(context: Context) -> None:
    """One engine between shapes and texts, compared with an engine that ran nothing else."""
    plain = without_graph(BEST)
    with (
        open_variant(context.work, BEST, "unet", context.device) as engine,
        open_variant(context.work, plain, "unet", context.device) as fresh,
    ):
        worst, num_runs = 200.0, 0
        texts = [unet_feeds(context, rows, 7)["encoder_hidden_states"] for rows in (1, 2)]
        pins = {len(text): engine.pin("encoder_hidden_states", text) for text in texts}
        for seed in range(2):
            for rows, latents in [(2, 64), (1, 64), (2, 48), (2, 64)]:
                feeds = unet_feeds(context, rows, seed, latents)
                cases: list[dict[str, Any]] = [feeds]
                if rows in pins:
                    cases.append(feeds | {"encoder_hidden_states": pins[rows]})
                for case in cases * 2:
                    got = engine.run(case)["out_sample"]
                    text = case["encoder_hidden_states"]
                    text = text if isinstance(text, np.ndarray) else texts[rows - 1]
                    expected = fresh.run(feeds | {"encoder_hidden_states": text})["out_sample"]
                    worst, num_runs = min(worst, psnr(expected, got)), num_runs + 1
        context.add("one engine between shapes, worst PSNR", "dB", [worst], runs=num_runs)
    context.attempt("guidance and sizes in one pipeline", lambda: _alternating_images(context))


def _alternating_images(context: Context) -> None:
    size = latents_at(context) * 8
    requests = [
        {"guidance_scale": scale, "width": width, "height": size}
        for scale in (1.0, 7.5)
        for width in (size, size - 64 if not context.small else size + 8)
    ]

    def generated(pipeline: Any, request: dict[str, Any]) -> Array:
        result = pipeline("a", seed=3, num_inference_steps=4, scheduler="euler", **request)
        return np.asarray(result.images[0])

    with sdrt_pipeline(context, BEST) as pipeline:
        got = [generated(pipeline, request) for request in requests * 2]
    worst = 200.0
    for place, request in enumerate(requests):
        with sdrt_pipeline(context, without_graph(BEST)) as fresh:
            expected = generated(fresh, request)
        worst = min(worst, *(psnr(expected, got[i]) for i in (place, place + len(requests))))
    context.add("guidance and sizes in one pipeline, worst PSNR", "dB", [worst], images=len(got))
