"""The memory, threads and open files of this process, and exceptions that nobody caught."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_SELF = Path("/proc/self")
_MB = 2**20
_M_ARENA_MAX = -8  # malloc.h


@dataclass(frozen=True)
class Held:
    """Threads of Python, threads of the system, and open files."""

    threads: tuple[str, ...]
    num_system_threads: int
    files: tuple[str, ...]

    def beyond(self, before: Held) -> list[str]:
        """Whatever was not held before, in words."""
        found = [f"the thread {name}" for name in _more(self.threads, before.threads)]
        found += [f"the open file {name}" for name in _more(self.files, before.files)]
        more = self.num_system_threads - before.num_system_threads
        return found + ([f"{more} threads of libraries"] if more > 0 and not found else [])


def held() -> Held:
    gc.collect()
    return Held(
        tuple(sorted(thread.name for thread in threading.enumerate())),
        sum(1 for _ in (_SELF / "task").iterdir()),
        tuple(sorted(_target(link) for link in (_SELF / "fd").iterdir())),
    )


def held_soon(before: Held, seconds: float = 5) -> Held:
    """`held()`, as soon as it is no more than `before`, or after that time: the system needs a
    moment to end threads."""
    end = time.monotonic() + seconds
    while (now := held()).beyond(before) and time.monotonic() < end:
        time.sleep(0.05)
    return now


def limit_malloc() -> None:
    """glibc keeps freed memory for each thread, in eight arenas per core: with one, memory that
    grows is memory that is held."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt:
        mallopt(_M_ARENA_MAX, 1)


def resident_megabytes() -> float:
    """The memory of this process that is not swapped out (RSS)."""
    pages = int((_SELF / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / _MB


@contextmanager
def uncaught_exceptions() -> Iterator[list[str]]:
    """Those of threads and destructors in the block, which Python would only print."""
    found: list[str] = []

    def note(arguments: Any) -> None:
        found.append(f"{arguments.exc_type.__name__}: {arguments.exc_value}")

    hooks = threading.excepthook, sys.unraisablehook
    threading.excepthook = sys.unraisablehook = note
    try:
        yield found
    finally:
        threading.excepthook, sys.unraisablehook = hooks


def _target(link: Path) -> str:
    try:
        return link.readlink().as_posix().partition(":")[0]
    except FileNotFoundError:  # the folder of the descriptors, which is closed again
        return ""


def _more(now: tuple[str, ...], before: tuple[str, ...]) -> list[str]:
    return sorted((Counter(now) - Counter(before)).elements())
