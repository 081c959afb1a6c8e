"""Compiled networks: arrays in, arrays out. Knows names, shapes, dtypes and devices only."""

from sdrt_engines.dimensions import shape_at
from sdrt_engines.engine import Engine, FunctionEngine, Pinned
from sdrt_engines.errors import (
    EngineError,
    SdrtError,
    TargetError,
    TensorError,
    did_you_mean,
    nearest,
)
from sdrt_engines.onnx_signature import signature_from_onnx
from sdrt_engines.onnxruntime_cpu import engine_from_onnx
from sdrt_engines.target import Backend, Refusal, Resolution, Target, resolve_target
from sdrt_engines.tensor import DTYPES, Array, Signature, TensorSpec

__all__ = [
    "DTYPES",
    "Array",
    "Backend",
    "Engine",
    "EngineError",
    "FunctionEngine",
    "Pinned",
    "Refusal",
    "Resolution",
    "SdrtError",
    "Signature",
    "Target",
    "TargetError",
    "TensorError",
    "TensorSpec",
    "did_you_mean",
    "engine_from_onnx",
    "nearest",
    "resolve_target",
    "shape_at",
    "signature_from_onnx",
]
