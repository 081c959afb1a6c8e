"""Reads regular files only: a FIFO or a device named by a stranger could block for ever."""

from __future__ import annotations

import errno
import os
import stat
from io import BufferedReader
from os import PathLike
from pathlib import Path
from typing import NamedTuple

_KINDS = {  # anything that can stand at a path in place of a file
    stat.S_IFIFO: "Is a FIFO",
    stat.S_IFSOCK: "Is a socket",
    stat.S_IFCHR: "Is a device",
    stat.S_IFBLK: "Is a device",
}
_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
_NONBLOCK = getattr(os, "O_NONBLOCK", 0)  # opening a FIFO waits for its writer otherwise


class FileIdentity(NamedTuple):
    """A value that changes when a file does, or when another one takes its place."""

    device: int
    inode: int
    size: int  # bytes
    mtime_ns: int

    @classmethod
    def of(cls, found: os.stat_result) -> FileIdentity:
        return cls(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)


def open_regular(path: str | PathLike[str]) -> BufferedReader:
    """The regular file at `path`, opened for reading.

    OSError with a `strerror` for anything else: a folder, a FIFO, a socket, a device.
    """
    path = Path(path)
    _require_regular(path.stat(), path)  # first: some devices act when they are opened
    descriptor = os.open(path, _FLAGS | _NONBLOCK)
    try:
        _require_regular(os.fstat(descriptor), path)  # again: it may have been replaced
        return open(descriptor, "rb")  # noqa: PTH123, a descriptor
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: str | PathLike[str]) -> bytes:
    """The content of the regular file at `path`. OSError for anything else."""
    with open_regular(path) as file:
        return file.read()


def _require_regular(found: os.stat_result, path: Path) -> None:
    if stat.S_ISDIR(found.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    if not stat.S_ISREG(found.st_mode):
        kind = _KINDS.get(stat.S_IFMT(found.st_mode), "Is not a file")
        raise OSError(errno.EINVAL, kind, str(path))
