"""Stable Diffusion without PyTorch, on ONNX Runtime, OpenVINO and TensorRT.

pipe = sdrt.Pipeline.open("demo")
pipe("a large red circle on a white background", seed=7).images[0].save("circle.png")
"""

import sys

if sys.argv[:1] == ["-m"] and sys.orig_argv[-len(sys.argv)] == __name__:
    from sdrt_command import interrupt_quietly

    interrupt_quietly()  # `python -m sdrt` imports this package before its `__main__`

# First: imported after other modules, numpy takes 20 ms longer.
import numpy  # noqa: F401

from sdrt.bundle.folder import Bundle
from sdrt.control import Control
from sdrt.errors import (
    BundleError,
    DeadlineExceeded,
    NonFiniteError,
    RequestCancelled,
    RequestError,
    SamplerError,
    SdrtError,
)
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
    "DeadlineExceeded",
    "EngineError",
    "Forecast",
    "NonFiniteError",
    "Note",
    "NoteWarning",
    "OutOfMemoryError",
    "Pipeline",
    "Request",
    "RequestCancelled",
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
