"""Stable Diffusion inference on ONNX and TensorRT engines, without PyTorch.

pipe = sdrt.Pipeline.open("demo")
pipe("a large red circle on a white background", seed=7).images[0].save("circle.png")
"""

# First: imported after other modules, numpy takes 20 ms longer.
import numpy  # noqa: F401

from sdrt.bundle.folder import Bundle
from sdrt.control import Control
from sdrt.errors import SdrtError
from sdrt.pipeline import Pipeline
from sdrt.request import Request
from sdrt.result import Result, Step

__all__ = ["Bundle", "Control", "Pipeline", "Request", "Result", "SdrtError", "Step"]
__version__ = "0.1.0"
