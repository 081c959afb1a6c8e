"""Compiled networks: arrays in, arrays out. Knows names, shapes, dtypes and devices only."""

from sdrt_engines.engine import Engine, FunctionEngine, Pinned
from sdrt_engines.errors import EngineError, SdrtError, TargetError, TensorError, did_you_mean
from sdrt_engines.tensor import Array, Signature, TensorSpec

__all__ = [
    "Array",
    "Engine",
    "EngineError",
    "FunctionEngine",
    "Pinned",
    "SdrtError",
    "Signature",
    "TargetError",
    "TensorError",
    "TensorSpec",
    "did_you_mean",
]
