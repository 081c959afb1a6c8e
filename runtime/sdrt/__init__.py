"""Stable Diffusion without PyTorch, on ONNX Runtime, OpenVINO and TensorRT.

pipe = sdrt.Pipeline.open("demo")
pipe("a large red circle on a white background", seed=7).images[0].save("circle.png")
"""

# First: imported after other modules, numpy takes 20 ms longer.
import numpy  # noqa: F401

from sdrt.bundle.folder import Bundle
from sdrt.control import Control
from sdrt.errors import BundleError, NonFiniteError, RequestError, SamplerError, SdrtError
from sdrt.notes import Note, NoteWarning
from sdrt.pipeline import Pipeline
from sdrt.request import Request, RequestOptions
from sdrt.result import Result, Step, Stream
from sdrt.targets.forecast import Forecast
from sdrt.timings import Timings
from sdrt_engines import EngineError, OutOfMemoryError, TargetError

__all__ = [
    "Bundle",
    "BundleError",
    "Control",
    "EngineError",
    "Forecast",
    "NonFiniteError",
    "Note",
    "NoteWarning",
    "OutOfMemoryError",
    "Pipeline",
    "Request",
    "RequestError",
    "RequestOptions",
    "Result",
    "SamplerError",
    "SdrtError",
    "Step",
    "Stream",
    "TargetError",
    "Timings",
]
__version__ = "0.1.0"
