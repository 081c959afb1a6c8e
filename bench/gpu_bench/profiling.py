"""Profiles: kernels, and operators that run outside of the GPU."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

from gpu_bench.context import Context
from gpu_bench.networks import feeds_for, latents_of
from gpu_bench.peers import compiled_pipeline, diffusers_pipeline, milliseconds, unet_step, wait
from gpu_bench.sessions import BEST, TF32, latents_at, model_of, open_variant, without_graph
from gpu_bench.steps import unet_feeds
from sdrt_engines import signature_from_onnx


def profile(context: Context) -> None:
    """Kernels by their total time, and the operators that run outside of the GPU."""
    context.attempt("kernels", lambda: _kernels(context))
    context.attempt("kernels of compiled UNet", lambda: _peer_kernels(context))
    for name in context.networks:
        context.attempt(f"operators of {name}", lambda n=name: _operators(context, n))


def _kernels(context: Context) -> None:
    variant = without_graph(BEST)
    with open_variant(context.work, variant, "unet", context.device) as engine:
        feeds = unet_feeds(context, 2)
        engine.run(feeds)
        _report_kernels(context, "sdrt UNet, 2 rows", lambda: engine.run(feeds))
    with open_variant(context.work, variant, "vae_decoder", context.device) as engine:
        decoder = feeds_for(engine.signature, latents_of("vae_decoder", latents_at(context), 1))
        engine.run(decoder)
        _report_kernels(context, "sdrt VAE decoder", lambda: engine.run(decoder))


def _peer_kernels(context: Context) -> None:
    step = unet_step(context, diffusers_pipeline(context), 1, latents_at(context))
    unet = compiled_pipeline(context).unet
    milliseconds(context, lambda: step(unet), 3)
    _report_kernels(context, "diffusers compiled UNet, 2 rows", lambda: step(unet))


def _report_kernels(context: Context, title: str, step: Any) -> None:
    from torch.profiler import ProfilerActivity
    from torch.profiler import profile as torch_profile

    activity = ProfilerActivity.CPU if context.small else ProfilerActivity.CUDA
    with torch_profile(activities=[activity]) as found:
        for _ in range(3):
            step()
        wait(context)
    totals: Counter[str] = Counter()
    calls: Counter[str] = Counter()
    for event in found.events():
        if not context.small and "CUDA" not in str(event.device_type):
            continue
        totals[event.name] += event.time_range.elapsed_us() / 3
        calls[event.name] += 1
    total = sum(totals.values())
    table = [(name, round(us, 1), calls[name] / 3) for name, us in totals.most_common()]
    path = context.out / f"kernels {title}.json".replace(" ", "_").replace(",", "")
    path.write_text(json.dumps(table, indent=0))
    context.add(f"kernels, {title}", "ms", [total / 1000], launches=sum(calls.values()) / 3)
    for name, us, num in table[:12]:
        print(f"    {us:9.1f} µs {num:6.1f}×  {name[:110]}")


def _operators(context: Context, name: str) -> None:
    """Counts operators by the provider that ran them: copies and the CPU break CUDA graphs."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    options.enable_profiling = True
    options.profile_file_prefix = str(context.out / f"operators_{name}")
    path = model_of(context.work, "half" if context.small else "fused", name)
    cuda = [] if context.small else [("CUDAExecutionProvider", TF32)]
    session = onnxruntime.InferenceSession(path, options, providers=[*cuda, "CPUExecutionProvider"])
    signature = signature_from_onnx(path)
    session.run(None, feeds_for(signature, latents_of(name, 8, 2)))
    trace = Path(session.end_profiling())
    ran: Counter[str] = Counter()
    for event in json.loads(trace.read_text()):
        if event.get("cat") == "Node" and "provider" in event.get("args", {}):
            where = event["args"]["provider"].removesuffix("ExecutionProvider")
            ran[f"{where} {event['args']['op_name']}"] += 1
    trace.unlink()
    elsewhere = {op: num for op, num in ran.items() if not op.startswith("CUDA") or "emcpy" in op}
    context.add(f"operators of {name}", "", [sum(ran.values())], outside=elsewhere)
