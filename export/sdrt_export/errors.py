"""The exporter's errors, each a `SdrtError`; a missing library becomes one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec

from sdrt.errors import SdrtError


class CheckpointError(SdrtError):
    """A checkpoint is missing, incomplete, unsafe to read, or of an unknown kind."""


class ExportError(SdrtError):
    """A network could not be exported, or its ONNX file does not match torch."""


class BuildError(SdrtError):
    """An engine could not be built from a bundle's network."""


@contextmanager
def missing_library_as(kind: type[SdrtError], user: str, package: str) -> Iterator[None]:
    """Translates a failed import in the block; `package` is the argument for pip."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise kind(
            f"{user} needs {error.name}, which is not installed: pip install {package}"
        ) from error


@contextmanager
def unreadable_as_checkpoint_error() -> Iterator[None]:
    """Translates the PermissionError of a file or folder that this user may not read."""
    try:
        yield
    except PermissionError as error:
        raise CheckpointError(f"'{error.filename}' cannot be read: {error.strerror}") from error


def require_libraries(names: Iterable[str], kind: type[SdrtError], user: str, package: str) -> None:
    """Raises that error if one of the libraries is not installed; imports none of them."""
    with missing_library_as(kind, user, package):
        for name in names:
            if find_spec(name) is None:
                raise ModuleNotFoundError(name=name)
