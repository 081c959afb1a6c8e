"""The errors of the runtime, each a `SdrtError`."""

from sdrt_engines.errors import SdrtError, did_you_mean, nearest, quoted

__all__ = [
    "BundleError",
    "DeadlineExceeded",
    "FileError",
    "NonFiniteError",
    "RequestCancelled",
    "RequestError",
    "SamplerError",
    "SdrtError",
    "UsageError",
    "did_you_mean",
    "nearest",
    "quoted",
]


class BundleError(SdrtError):
    """A bundle is missing, broken, changed, or of a format that this version cannot read."""


class FileError(SdrtError):
    """A file of a model, a LoRA or an embedding is damaged, or not what was expected."""


class RequestError(SdrtError):
    """A request asks for something impossible, or that this bundle cannot do."""


class RequestCancelled(SdrtError):  # noqa: N818 - not a fault
    """A request ended before its images were ready, because another thread closed its stream."""


class DeadlineExceeded(RequestCancelled):
    """A request was not ready at its deadline."""


class SamplerError(SdrtError):
    """A sampler is unknown, or an option of its configuration is not supported."""


class NonFiniteError(SdrtError):
    """A network's output holds NaN or infinity, so there is no image."""


class UsageError(SdrtError):
    """The command line was used wrongly."""
