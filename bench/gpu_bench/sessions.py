"""ONNX Runtime sessions with the compared options, as sdrt engines."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import numpy as np

from gpu_bench.context import Context
from sdrt_engines import Array, signature_from_onnx
from sdrt_engines.onnxruntime_cuda import BoundEngine
from sdrt_engines.onnxruntime_library import import_onnxruntime


@dataclass(frozen=True)
class Variant:
    """A graph and the options of its session. `kind` is the folder that holds the graph."""

    name: str
    kind: str
    provider: Mapping[str, str] = field(default_factory=dict)
    session: Mapping[str, str] = field(default_factory=dict)
    cuda_graph: bool = True


TF32 = {"use_tf32": "1"}  # without it cuDNN does not use tensor cores, even in float16
BEST = Variant("fused", "fused", {**TF32, "sdpa_kernel": "11"})  # the result of `sdrt build`
REFERENCE_LATENTS = 32  # height and width for comparisons with the CPU


def without_graph(variant: Variant) -> Variant:
    return replace(variant, name=f"{variant.name}, no CUDA graph", cuda_graph=False)


def with_options(variant: Variant, name: str, **provider: str) -> Variant:
    return replace(variant, name=name, provider={**variant.provider, **provider})


def latents_at(context: Context, full: int = 64) -> int:
    """Height and width of latents: 64 are 512 pixels."""
    return full // 8 if context.small else full


def model_of(work: Path, kind: str, name: str) -> Path:
    """The path of a graph; `kind` is "" for the graph as exported."""
    return work / kind / name / "model.onnx"


def open_variant(
    work: Path, variant: Variant, name: str, device: Literal["cpu", "cuda"]
) -> BoundEngine:
    """The network; without a CUDA graph if parts of it run on the CPU."""
    try:
        return _open(work, variant, name, device)
    except Exception as error:
        if "graph capture" not in str(error):
            raise
        return _open(work, replace(variant, cuda_graph=False), name, device)


def _open(work: Path, variant: Variant, name: str, device: Literal["cpu", "cuda"]) -> BoundEngine:
    onnxruntime = import_onnxruntime()
    kind = "half" if device == "cpu" and variant.kind else variant.kind  # others lack CPU kernels
    path = model_of(work, kind, name)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for key, value in variant.session.items():
        options.add_session_config_entry(key, value)
    provider: object = "CPUExecutionProvider"
    if device == "cuda":
        given = {"use_tf32": "0", **variant.provider}
        given["enable_cuda_graph"] = str(int(variant.cuda_graph))
        provider = ("CUDAExecutionProvider", given)
    session = onnxruntime.InferenceSession(path, options, providers=[provider])
    if device == "cuda" and "CUDAExecutionProvider" not in session.get_providers():
        raise RuntimeError("the CUDA provider did not load")
    graph = variant.cuda_graph and device == "cuda"
    return BoundEngine(signature_from_onnx(path), name, session, device, cuda_graph=graph)


def psnr(expected: Array, got: Array) -> float:
    """dB relative to the range of `expected`; 0 if `got` contains NaN."""
    if not np.isfinite(got).all():
        return 0.0
    expected, got = expected.astype(np.float64), got.astype(np.float64)
    error = float(np.mean((expected - got) ** 2))
    return 200.0 if error == 0 else float(10 * np.log10(np.ptp(expected) ** 2 / error))
