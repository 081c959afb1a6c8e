"""Calls that exist only on some operating systems, each with a substitute for the others.

The default arguments are those of this system. With other arguments the tests run every branch on
Linux. Facts that only Linux reports about processors are in `processor.py`, read from files.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import time
from collections.abc import Callable, Set
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import IO, Any, TypeAlias

Affinity: TypeAlias = Callable[[int], Set[int]]

Exchange: TypeAlias = Callable[[bytes, bytes], int]  # returns the number of the error, or 0

_AT_CWD = -100  # AT_FDCWD
_SWAP = 2  # RENAME_EXCHANGE of Linux, RENAME_SWAP of macOS
_CANNOT_EXCHANGE = {errno.ENOSYS, errno.EINVAL, errno.EXDEV, errno.EOPNOTSUPP, errno.ENOTSUP}
_CANNOT_SYNC = {errno.EINVAL, errno.ENOTSUP, errno.ENOSYS}
_CANNOT_LOCK = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS}
_DISK_FULL = {errno.ENOSPC, getattr(errno, "EDQUOT", errno.ENOSPC)}
_CACHES = {"win32": "AppData/Local", "darwin": "Library/Caches"}  # in the home folder
_POLL = 0.2  # seconds between attempts to take a lock


def _module(name: str) -> ModuleType | None:
    try:
        return import_module(name)
    except ModuleNotFoundError:
        return None


_AFFINITY: Affinity | None = getattr(os, "sched_getaffinity", None)
_FCNTL, _MSVCRT, RESOURCE = map(_module, ("fcntl", "msvcrt", "resource"))


def usable_processors(affinity: Affinity | None = _AFFINITY) -> Set[int]:
    """The logical processors that this process may run on."""
    if affinity is None:  # Windows, macOS
        return set(range(os.cpu_count() or 1))
    return affinity(0)


def peak_memory(
    status: Path = Path("/proc/self/status"), resource: ModuleType | None = RESOURCE
) -> int | None:
    """The peak memory of this process in bytes; None if the system does not report it.

    On Linux, `getrusage` of a child includes the peak of the parent that started it, so the peak is
    read from the process's status.
    """
    if status.exists():
        found = re.search(r"^VmHWM:\s*(\d+) kB$", status.read_text(encoding="utf-8"), re.MULTILINE)
        return int(found[1]) * 1024 if found else None
    if resource is None:  # Windows
        return None
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024


def take_lock(
    file: IO[bytes],
    *,
    wait: bool,
    fcntl: ModuleType | None = _FCNTL,
    msvcrt: ModuleType | None = _MSVCRT,
) -> bool:
    """Locks an open file for this process; False if another has it. Closing the file unlocks it.

    OSError (`cannot_lock`) if this system or disk has no locks.
    """
    if fcntl is None and msvcrt is None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))
    if fcntl is None:
        return _take_by_polling(file, msvcrt, wait)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    return True


def _take_by_polling(file: IO[bytes], msvcrt: ModuleType | None, wait: bool) -> bool:
    """Windows also has a call that waits, but it fails after ten seconds."""
    assert msvcrt is not None, "checked by the caller"
    while True:
        try:
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        except PermissionError:
            if not wait:
                return False
            time.sleep(_POLL)
        else:
            return True


def exchange(first: Path, second: Path, call: Exchange | None = None) -> bool:
    """Swaps two files or folders of one disk in one step; False if this system or disk cannot.

    OSError if one is missing or may not be moved.
    """
    sys.audit("os.rename", str(first), str(second), -1, -1)  # as the functions of `os` do
    number = (call or _exchange_call())(os.fsencode(first), os.fsencode(second))
    if number and number not in _CANNOT_EXCHANGE:
        raise OSError(number, os.strerror(number), str(first), None, str(second))
    return number == 0


def _exchange_call() -> Exchange:
    """Linux' or macOS' call, which returns the number of the error, or 0."""
    import ctypes  # here: `import sdrt` does not need it

    library = ctypes.CDLL(None, use_errno=True) if os.name == "posix" else None
    linux: Any = getattr(library, "renameat2", None)
    macos: Any = getattr(library, "renamex_np", None)
    if linux:
        return lambda *paths: _error_of(linux(_AT_CWD, paths[0], _AT_CWD, paths[1], _SWAP))
    if macos:
        return lambda *paths: _error_of(macos(*paths, _SWAP))
    return lambda *paths: errno.ENOSYS


def _error_of(result: int) -> int:
    import ctypes

    return ctypes.get_errno() if result else 0


def sync_to_disk(path: Path) -> None:
    """Waits until a file's content, or a folder's names, would survive a power failure.

    Does nothing on Windows, which has no such call for folders, and on disks without one.
    """
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _CANNOT_SYNC:
            raise
    finally:
        os.close(descriptor)


def make_read_only(file: Path) -> None:
    """Mode 0444. Nothing on Windows, where such a file could not be removed; there, one that is
    mapped cannot be overwritten anyway."""
    if os.name == "posix":
        file.chmod(0o444)


def user_caches(platform: str = sys.platform) -> Path:
    """The folder that the system provides for this user's caches.

    RuntimeError if it does not know the home folder. On Linux according to
    https://specifications.freedesktop.org/basedir-spec/latest/
    """
    given = Path(os.environ.get("LOCALAPPDATA" if platform == "win32" else "XDG_CACHE_HOME", ""))
    if given.is_absolute():  # the specification ignores relative paths
        return given
    return Path.home() / _CACHES.get(platform, ".cache")


def is_disk_full(error: OSError) -> bool:
    """True if the disk, or the user's share of it, is full."""
    return error.errno in _DISK_FULL


def is_over_quota(error: OSError) -> bool:
    """True if this user's share of the disk is used up."""
    return error.errno == getattr(errno, "EDQUOT", None)


def cannot_lock(error: OSError) -> bool:
    """True if this disk has no locks, as some network drives."""
    return error.errno in _CANNOT_LOCK


def free_files(path: Path) -> int | None:
    """The number of files that can still be created on the disk; None if it is not limited."""
    if not hasattr(os, "statvfs"):  # Windows
        return None
    disk = os.statvfs(path)
    return disk.f_favail if disk.f_files else None


def is_in_use(error: OSError, path: Path) -> bool:
    """True if `path` was not replaced, and a program may have it open: Windows refuses that."""
    return isinstance(error, PermissionError) and os.path.exists(path)  # noqa: PTH110, never raises
