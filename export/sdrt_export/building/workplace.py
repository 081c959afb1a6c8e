"""The folder that a build writes to: one build at a time, enough space, nothing left behind."""

from __future__ import annotations

import errno
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sdrt.bundle.manifest import ENGINES
from sdrt.bundle.writing import only_writer
from sdrt.files.atomic import full_disk
from sdrt_engines.operating_system import is_disk_full
from sdrt_export.errors import BuildError
from sdrt_export.options import Report

_NOT_WRITABLE = {errno.EACCES, errno.EPERM, errno.EROFS, errno.EEXIST, errno.ENOTDIR}
# Bytes of a plan in addition to its weights: 96 MB for Stable Diffusion 1.5's UNet
_OTHER_BYTES = 120e6


@contextmanager
def build_alone(root: Path, backend: str, report: Report) -> Iterator[None]:
    """Locks out other writers of this bundle, and removes the leftovers of killed ones."""
    engines = root / ENGINES
    if not (engines / backend).resolve().is_relative_to(root.resolve()):
        raise BuildError(
            f"'{engines / backend}' leads out of the bundle, to {(engines / backend).resolve()}, "
            "where it would not be opened: put a folder there"
        )
    try:
        with only_writer(root, lambda: report(f"waiting for another writer of {root} to end")):
            yield
    except OSError as error:
        if error.errno not in _NOT_WRITABLE:
            raise
        raise BuildError(
            f"cannot write '{error.filename or engines}': {error.strerror}: copy the bundle "
            "to a folder of your own"
        ) from error


@contextmanager
def disk_full_as_build_error(root: Path) -> Iterator[None]:
    """Translates the OSError of a full disk into a BuildError."""
    try:
        yield
    except OSError as error:
        if not is_disk_full(error):
            raise
        raise BuildError(
            f"{full_disk(error, root)}: make room, or build fewer components; what was finished "
            "stays"
        ) from error


def require_room(root: Path, build: str, needed: float) -> None:
    """BuildError if fewer than `needed` bytes are free; `build` names the consumer."""
    free = shutil.disk_usage(root).free
    if free < needed:
        raise BuildError(
            f"'{root}': {build} about {needed / 1e6:.0f} MB, {free / 1e6:.0f} are free: make room, "
            "or build fewer components"
        )


def bytes_of_plans(weights: Sequence[float]) -> float:
    """The bytes needed to build plans with these weights, given in bytes per plan.

    Each plan contains its weights; so does its source graph, one at a time.
    """
    return sum(weights) + len(weights) * _OTHER_BYTES + max(weights, default=0)
