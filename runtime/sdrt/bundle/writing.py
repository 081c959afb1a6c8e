"""One writer at a time in a bundle: exports into it, builds, changes of its defaults."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from sdrt.bundle.manifest import ENGINES
from sdrt.errors import BundleError
from sdrt.files.drafts import remove_dead_drafts
from sdrt.files.locking import file_lock

LOCK = f"{ENGINES}/.lock"


@contextmanager
def only_writer(root: Path, waiting: Callable[[], None]) -> Iterator[None]:
    """Locks out other writers of the bundle at `root`; calls `waiting` once if there is one.

    Read the manifest inside the block: another writer may have changed it. What killed writers left
    in the bundle and next to it is removed first. BundleError if the bundle cannot be written.
    """
    with ExitStack() as stack:
        try:
            stack.enter_context(_lock_of(root, waiting))
        except OSError as error:
            raise BundleError(
                f"cannot write '{error.filename or root}': {error.strerror}: copy the bundle to a "
                "folder of your own"
            ) from error
        for folder, _, _ in os.walk(root):
            remove_dead_drafts(Path(folder))
        remove_dead_drafts(root.resolve().parent)
        yield


@contextmanager
def _lock_of(root: Path, waiting: Callable[[], None]) -> Iterator[None]:
    try:
        with file_lock(root / LOCK, waiting):
            yield
    finally:
        with suppress(OSError):  # not empty: it holds builds
            (root / ENGINES).rmdir()
