"""All backends, in the order in which the target `auto` tries them without measurements.

GPUs come first. ONNX Runtime comes before OpenVINO: it is installed everywhere, and which of the
two is faster depends on the processor.
"""

from __future__ import annotations

from typing import Final

from sdrt_engines.backend import Backend
from sdrt_engines.onnxruntime_cpu import CPU
from sdrt_engines.onnxruntime_cuda import CUDA
from sdrt_engines.openvino_cpu import OPENVINO
from sdrt_engines.tensorrt_plan import TENSORRT, TENSORRT_RTX

BACKENDS: Final[tuple[Backend, ...]] = (
    TENSORRT,
    TENSORRT_RTX,
    CUDA,
    CPU,
    OPENVINO,
)
