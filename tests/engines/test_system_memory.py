from __future__ import annotations

import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sdrt_engines.system_memory import FreeMemory, free_memory, resident_memory

GIB = 2**30
PAGE = os.sysconf("SC_PAGE_SIZE")
INFINITE = -1


def system(
    root: Path, groups: str = "0::/", *, swap: int = 0, pages: str = "1000 500 1 1 0 300 0"
) -> tuple[Path, Path]:
    """The folders /proc and /sys/fs/cgroup of a machine with 8 GiB that are free."""
    proc, cgroups = root / "proc", root / "cgroup"
    (proc / "self").mkdir(parents=True)
    (proc / "meminfo").write_text(
        f"MemTotal: {16 * 2**20} kB\nMemAvailable: {8 * 2**20} kB\nSwapFree: {swap * 2**20} kB\n"
    )
    (proc / "self/cgroup").write_text(groups + "\n")
    (proc / "self/statm").write_text(pages)
    return proc, cgroups


def write_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


def limits(address_space: int = INFINITE, data: int = INFINITE) -> Any:
    """A module `resource` with these limits."""
    return SimpleNamespace(
        RLIMIT_AS=0,
        RLIMIT_DATA=1,
        RLIM_INFINITY=INFINITE,
        getrlimit=lambda kind: ((address_space, data)[kind], INFINITE),
    )


def test_the_machine_s_memory_and_swap(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path, swap=2)
    found = free_memory(proc, cgroups, limits(), "linux")
    assert found == FreeMemory(10 * GIB, "of this machine")


def test_a_container_s_limit_counts_without_files_that_can_be_dropped(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path, "0::/docker/a")
    group = cgroups / "docker/a"
    write_group(group, memory__max=str(4 * GIB), memory__current=str(3 * GIB))
    assert free_memory(proc, cgroups, limits(), "linux") == FreeMemory(
        GIB, "within this container's limit"
    )
    write_group(group, memory__stat=f"anon 1\ninactive_file {GIB}")
    found = free_memory(proc, cgroups, limits(), "linux")
    assert found is not None
    assert found.size == 2 * GIB


@pytest.mark.parametrize("name", ["memory__max", "memory__high"])
def test_a_group_around_the_own_one_counts(name: str, tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path, "0::/pods/a/b")
    write_group(cgroups / "pods/a/b", memory__max="max", memory__current=str(GIB))
    write_group(cgroups / "pods", memory__current=str(GIB), **{name: str(3 * GIB)})
    found = free_memory(proc, cgroups, limits(), "linux")
    assert found is not None
    assert found.size == 2 * GIB


def test_a_container_that_does_not_see_its_own_path(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path, "0::/docker/a")
    write_group(cgroups, memory__max=str(2 * GIB), memory__current=str(GIB))
    found = free_memory(proc, cgroups, limits(), "linux")
    assert found is not None
    assert found.size == GIB


def test_groups_of_version_1(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path, "4:cpu,memory:/a\n1:cpu:/\n0::/")
    write_group(
        cgroups / "memory/a",
        memory__limit_in_bytes=str(2 * GIB),
        memory__usage_in_bytes=str(GIB + GIB // 2),
        memory__stat=f"inactive_file 5\ntotal_inactive_file {GIB}",
    )
    write_group(
        cgroups / "memory",
        memory__limit_in_bytes=str(2**63 - PAGE),
        memory__usage_in_bytes=str(9 * GIB),
    )
    found = free_memory(proc, cgroups, limits(), "linux")
    assert found == FreeMemory(GIB + GIB // 2, "within this container's limit")


def test_a_group_over_its_limit_leaves_nothing(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path)
    write_group(cgroups, memory__max=str(GIB), memory__current=str(2 * GIB))
    found = free_memory(proc, cgroups, limits(), "linux")
    assert found is not None
    assert found.size == 0


def test_the_limits_of_the_process(tmp_path: Path) -> None:
    proc, cgroups = system(tmp_path)
    by_address = free_memory(proc, cgroups, limits(address_space=GIB), "linux")
    assert by_address == FreeMemory(GIB - 1000 * PAGE, "within ulimit -v")
    by_data = free_memory(proc, cgroups, limits(data=GIB), "linux")
    assert by_data == FreeMemory(GIB - 300 * PAGE, "within ulimit -d")


def test_a_system_that_reports_nothing(tmp_path: Path) -> None:
    assert free_memory(tmp_path, tmp_path, None, "linux") is None
    assert resident_memory(tmp_path) is None


def test_resident_memory(tmp_path: Path) -> None:
    proc, _ = system(tmp_path)
    assert resident_memory(proc) == 500 * PAGE


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's files")
def test_this_machine() -> None:
    found, resident = free_memory(), resident_memory()
    assert found is not None
    assert resident is not None
    assert found.size > 0
    assert resident > 2**20


def test_macos_has_all_of_its_memory() -> None:
    found = free_memory(platform="darwin")
    assert found is not None
    assert found.size > GIB // 4
