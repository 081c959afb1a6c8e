"""Compiled networks: arrays in, arrays out. Knows names, shapes, dtypes and devices only."""

from sdrt_engines.backend import Backend, MemoryUse, PlanFile, Settings, Source
from sdrt_engines.backends import BACKENDS
from sdrt_engines.dimensions import shape_at, size_of
from sdrt_engines.engine import Engine, Feed, Pinned
from sdrt_engines.errors import (
    EngineError,
    OutOfMemoryError,
    SdrtError,
    TargetError,
    TensorError,
    did_you_mean,
    nearest,
)
from sdrt_engines.function_engine import FunctionEngine
from sdrt_engines.onnx_data_files import data_files_of
from sdrt_engines.onnx_signature import signature_from_onnx
from sdrt_engines.onnxruntime_cpu import engine_from_onnx
from sdrt_engines.onnxruntime_cuda import cuda_engine_from_onnx
from sdrt_engines.openvino_cpu import openvino_engine_from_onnx, openvino_refusal
from sdrt_engines.system_memory import FreeMemory, free_memory, resident_memory
from sdrt_engines.target import (
    Backends,
    Refusal,
    Resolution,
    Target,
    backend_of,
    open_source,
    refusal_of,
    resolve_target,
    variants_of,
)
from sdrt_engines.tensor import DTYPES, Array, DeviceArray, Signature, TensorSpec, to_host

__all__ = [
    "BACKENDS",
    "DTYPES",
    "Array",
    "Backend",
    "Backends",
    "DeviceArray",
    "Engine",
    "EngineError",
    "Feed",
    "FreeMemory",
    "FunctionEngine",
    "MemoryUse",
    "OutOfMemoryError",
    "Pinned",
    "PlanFile",
    "Refusal",
    "Resolution",
    "SdrtError",
    "Settings",
    "Signature",
    "Source",
    "Target",
    "TargetError",
    "TensorError",
    "TensorSpec",
    "backend_of",
    "cuda_engine_from_onnx",
    "data_files_of",
    "did_you_mean",
    "engine_from_onnx",
    "free_memory",
    "nearest",
    "open_source",
    "openvino_engine_from_onnx",
    "openvino_refusal",
    "refusal_of",
    "resident_memory",
    "resolve_target",
    "shape_at",
    "signature_from_onnx",
    "size_of",
    "to_host",
    "variants_of",
]
