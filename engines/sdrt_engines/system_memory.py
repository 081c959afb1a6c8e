"""The memory that this process can still take: of the machine, its container and its limits.

The default arguments are those of this system. With other arguments the tests run every branch on
Linux.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from sdrt_engines.operating_system import RESOURCE

_PROC, _CGROUPS = Path("/proc"), Path("/sys/fs/cgroup")
_PAGE: int = getattr(os, "sysconf", lambda name: 4096)("SC_PAGE_SIZE")
_UNLIMITED = 2**60  # cgroup v1 writes a number near 2**63 for no limit


@dataclass(frozen=True)
class FreeMemory:
    """Bytes that this process can still take, and what limits them."""

    size: int
    limit: str  # "of this machine"


def free_memory(
    proc: Path = _PROC,
    cgroups: Path = _CGROUPS,
    resource: ModuleType | None = RESOURCE,
    platform: str = sys.platform,
) -> FreeMemory | None:
    """The least that any limit leaves; None if the system does not report it. Takes 0.1 ms.

    Swap counts: a process that needs it is slow, but not killed. Pages that the system can drop,
    such as files that were read, count as free.
    """
    if platform == "win32":
        return _of_windows()
    if platform == "darwin":
        return _of_macos()
    limits = (*_of_machine(proc), *_of_groups(proc, cgroups), *_of_process(proc, resource))
    return min(limits, key=lambda limit: limit.size, default=None)


def resident_memory(proc: Path = _PROC) -> int | None:
    """Bytes of memory that this process occupies; None if the system does not report it."""
    pages = _numbers(proc / "self/statm")
    return pages[1] * _PAGE if pages else None


def _of_machine(proc: Path) -> Iterator[FreeMemory]:
    found = dict(re.findall(r"^(\w+):\s*(\d+) kB$", _text(proc / "meminfo"), re.MULTILINE))
    if "MemAvailable" in found:
        size = int(found["MemAvailable"]) + int(found.get("SwapFree", 0))
        yield FreeMemory(size * 1024, "of this machine")


def _of_groups(proc: Path, cgroups: Path) -> Iterator[FreeMemory]:
    """The limits of the control groups that hold this process: those of a container."""
    for line in _text(proc / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            root, names = cgroups, _VERSION_2
        elif "memory" in controllers.split(","):
            root, names = cgroups / "memory", _VERSION_1
        else:
            continue
        own = PurePosixPath(path.lstrip("/"))
        for group in (own, *own.parents):  # a container may not see the groups around its own
            yield from _of_group(root / group, names)


@dataclass(frozen=True)
class _Names:
    """The names of a control group's files, which differ between its two versions."""

    limits: tuple[str, ...]
    used: str
    droppable: str  # in `memory.stat`: files that were read and are not in use


_VERSION_1 = _Names(("memory.limit_in_bytes",), "memory.usage_in_bytes", "total_inactive_file")
_VERSION_2 = _Names(("memory.max", "memory.high"), "memory.current", "inactive_file")


def _of_group(group: Path, names: _Names) -> Iterator[FreeMemory]:
    limits = [number for name in names.limits for number in _numbers(group / name)]
    limit = min(limits, default=_UNLIMITED)
    used = _numbers(group / names.used)
    if limit >= _UNLIMITED or not used:
        return
    stat = re.search(rf"^{names.droppable} (\d+)$", _text(group / "memory.stat"), re.MULTILINE)
    droppable = int(stat[1]) if stat else 0
    yield FreeMemory(max(limit - used[0] + droppable, 0), "within this container's limit")


def _of_process(proc: Path, resource: ModuleType | None) -> Iterator[FreeMemory]:
    """The limits of `ulimit -v` and `ulimit -d`."""
    pages = _numbers(proc / "self/statm")
    if resource is None or len(pages) < 6:
        return
    for kind, used, name in (
        (resource.RLIMIT_AS, pages[0], "ulimit -v"),
        (resource.RLIMIT_DATA, pages[5], "ulimit -d"),
    ):
        limit = resource.getrlimit(kind)[0]
        if limit != resource.RLIM_INFINITY:
            yield FreeMemory(max(limit - used * _PAGE, 0), f"within {name}")


def _of_windows() -> FreeMemory | None:
    """Memory and page file that can still be committed."""
    import ctypes

    fields = [("length", ctypes.c_uint32), ("load", ctypes.c_uint32)]
    sizes = ("physical", "free", "page_file", "free_page_file", "virtual", "free_virtual", "more")
    kind = type(
        "MemoryStatus",
        (ctypes.Structure,),
        {"_fields_": [*fields, *((name, ctypes.c_uint64) for name in sizes)]},
    )
    status: Any = kind()
    status.length = ctypes.sizeof(kind)
    library: Any = ctypes
    if not library.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)):
        return None
    return FreeMemory(status.free_page_file, "of this machine")


def _of_macos() -> FreeMemory | None:
    """All of its memory: macOS compresses and swaps what is in use, as far as its disk allows."""
    try:
        size = os.sysconf("SC_PHYS_PAGES") * _PAGE
    except (ValueError, OSError):
        return None
    return FreeMemory(size, "of this machine")


def _numbers(path: Path) -> list[int]:
    """The whole numbers in a file; empty if it is missing or contains "max"."""
    return [int(word) for word in _text(path).split() if word.isdecimal()]


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
