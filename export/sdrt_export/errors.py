"""What the exporter can raise. All of it is a `SdrtError`."""

from sdrt.errors import SdrtError


class CheckpointError(SdrtError):
    """A checkpoint is missing, incomplete, unsafe to read, or of a kind that sdrt does not know."""


class ExportError(SdrtError):
    """A network could not be exported, or its ONNX file does not give what torch gives."""


class BuildError(SdrtError):
    """An engine could not be built from a bundle's network."""
