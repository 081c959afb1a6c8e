"""Drafts: hidden folders in which files are written until they are complete.

A draft is locked by its writer, and the system releases the lock when that process ends. So the
next writer in a folder finds the drafts of processes that were killed, and removes them.
"""

from __future__ import annotations

import os
import platform
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from sdrt.files.locking import try_lock
from sdrt.files.unfinished import NEW, remove, settle

_NAME = re.compile(r"\.sdrt-[0-9a-f]{8}")
_LOCK = "lock"  # holds the name of its writer's machine
_REMOVED = b"\0"  # no machine's name; empty: its writer was killed before it wrote the name
_begun: set[Path] = set()  # by this process, and not removed
# A disk that two machines share may not show one machine's locks to the other.
_UNTOUCHED = 24 * 3600  # seconds after which another machine's draft counts as left behind


@contextmanager
def draft_in(folder: Path) -> Iterator[Path]:
    """A hidden folder in `folder`, so on the same disk. It is removed after the block.

    Drafts of killed processes in `folder` are removed first.
    """
    remove_dead_drafts(folder)
    draft, lock = _new_draft(folder)
    try:
        yield draft
    finally:
        with lock:
            removable = settle(draft) and _empty(draft, lock)
        if removable:
            _remove(draft)
        _begun.discard(draft)


@contextmanager
def scratch_in(folder: Path) -> Iterator[Path]:
    """An empty folder in a draft in `folder`, for intermediate files."""
    with draft_in(folder) as draft:
        (draft / NEW).mkdir()
        yield draft / NEW


def remove_dead_drafts(folder: Path) -> None:
    """Removes the drafts in `folder` whose process has ended; completes or undoes what they
    began."""
    with suppress(OSError):  # not allowed here: leftovers must not stop this writer
        for name in os.listdir(folder):  # noqa: PTH208, a `Path` for each of many images is slow
            if _NAME.fullmatch(name) and not (folder / name).is_symlink():
                _remove_if_dead(folder / name)


def remove_interrupted_drafts() -> None:
    """Removes the drafts that an interrupt of this process left while they were made or removed.

    An exception that was raised there keeps them locked.
    """
    for draft in _begun.copy():
        with suppress(OSError):
            _remove_if_dead(draft)
        _begun.discard(draft)


def _new_draft(folder: Path) -> tuple[Path, IO[bytes]]:
    while True:
        draft = folder / f".sdrt-{secrets.token_hex(4)}"
        _begun.add(draft)
        draft.mkdir()
        try:
            if lock := _own_lock(draft):
                return draft, lock
        except FileNotFoundError:  # another writer saw it without its lock, and removed it
            continue
        except OSError:
            _remove(draft)
            raise


def _own_lock(draft: Path) -> IO[bytes] | None:
    """The lock of a new draft; None if another writer saw it before it was locked."""
    lock = try_lock(draft / _LOCK, create=True)
    if lock is None:
        return None
    try:
        if lock.read(1) != _REMOVED:
            lock.write(_machine())
            return lock
    except OSError:
        lock.close()
        raise
    lock.close()
    return None


def _remove_if_dead(draft: Path) -> None:
    try:
        lock = try_lock(draft / _LOCK, create=False)
    except FileNotFoundError:
        draft.rmdir()  # the lock comes first and goes last, so the draft is empty
        return
    if lock is not None:
        with lock:
            removable = _is_left_behind(lock) and settle(draft) and _empty(draft, lock)
        if removable:
            _remove(draft)


def _is_left_behind(lock: IO[bytes]) -> bool:
    """True for a draft of this machine, and for one that another machine left long ago."""
    name = lock.read(1000)
    if name in (_machine(), b"") or name.startswith(_REMOVED):
        return True
    return time.time() - os.fstat(lock.fileno()).st_mtime > _UNTOUCHED


def _machine() -> bytes:
    return platform.node().encode(errors="surrogateescape")


def _empty(draft: Path, lock: IO[bytes]) -> bool:
    """Removes what is in the draft but its lock; True if that succeeds.

    The lock is marked, so that its writer gives up if it locks it now.
    """
    try:
        for path in draft.iterdir():
            if path.name != _LOCK:
                remove(path)
    except OSError:
        return False
    with suppress(OSError):  # no room for a byte
        lock.seek(0)
        lock.write(_REMOVED)
    return True


def _remove(draft: Path) -> None:
    """Removes an empty draft. Its lock is closed: Windows does not remove open files."""
    with suppress(OSError):
        (draft / _LOCK).unlink(missing_ok=True)
        draft.rmdir()
