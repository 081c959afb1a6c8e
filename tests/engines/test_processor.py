from __future__ import annotations

import os
import platform
from collections.abc import Iterable
from pathlib import Path

import pytest

from sdrt_engines.processor import (
    Processor,
    num_physical_cores,
    this_processor,
    usable_cores,
)

X86 = """processor : 0
vendor_id : AuthenticAMD
model name : AMD EPYC 9R14
flags : fpu avx2 avx512f avx512_bf16

processor : 1
flags : none
"""
ARM = """processor : 0
CPU implementer : 0x41
CPU part : 0xd40
Features : fp asimd bf16
"""


def processor_of(text: str, tmp_path: Path) -> Processor:
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    return this_processor(path)


@pytest.mark.parametrize(
    ("text", "name", "flags", "bfloat16"),
    [
        (X86, "AMD EPYC 9R14", {"fpu", "avx2", "avx512f", "avx512_bf16"}, True),
        (X86.replace(" avx512_bf16", ""), "AMD EPYC 9R14", {"fpu", "avx2", "avx512f"}, False),
        (ARM, "0x41 0xd40", {"fp", "asimd", "bf16"}, True),
        ("", platform.processor() or platform.machine(), set(), None),
    ],
)
def test_what_linux_says(
    text: str, name: str, flags: set[str], bfloat16: bool | None, tmp_path: Path
) -> None:
    found = processor_of(text, tmp_path)
    assert (found.name, found.flags, found.bfloat16) == (name, frozenset(flags), bfloat16)


def test_a_processor_without_flags_has_no_identity(tmp_path: Path) -> None:
    found = this_processor(tmp_path / "gone")
    assert found.name
    assert found.identity is None


@pytest.mark.parametrize(
    ("text", "same"),
    [
        (X86.replace("fpu avx2", "avx2 fpu"), True),
        (X86.replace(" avx512f", ""), False),
        (X86.replace("9R14", "7763"), False),
        (ARM, False),
    ],
)
def test_other_abilities_or_another_name_are_another_identity(
    text: str, same: bool, tmp_path: Path
) -> None:
    assert (processor_of(text, tmp_path).identity == processor_of(X86, tmp_path).identity) == same


def test_as_many_cores_are_usable_as_this_process_may_run_on(tmp_path: Path) -> None:
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("this system does not restrict processes to cores")
    before = os.sched_getaffinity(0)
    assert usable_cores(tmp_path / "gone") == len(before)
    try:
        os.sched_setaffinity(0, {min(before)})
        assert usable_cores(tmp_path / "gone") == 1
    finally:
        os.sched_setaffinity(0, before)


HYPERTHREADS = "\n\n".join(
    f"processor : {number}\nphysical id : 0\ncore id : {number // 2}" for number in range(8)
)


@pytest.mark.parametrize(
    ("usable", "count"), [(range(8), 4), ((0, 2, 4), 3), ((0, 1), 1), ((99,), None)]
)
def test_physical_cores_are_those_that_may_be_used(
    usable: Iterable[int], count: int | None, tmp_path: Path
) -> None:
    (tmp_path / "cpuinfo").write_text(HYPERTHREADS)
    assert num_physical_cores(tmp_path / "cpuinfo", set(usable)) == count


@pytest.mark.parametrize("text", ["", ARM])
def test_physical_cores_may_be_unknown(text: str, tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text(text)
    assert num_physical_cores(tmp_path / "cpuinfo", {0}) is None


def test_a_container_may_have_less_than_its_cores(tmp_path: Path) -> None:
    all_cores = usable_cores(tmp_path / "gone")
    assert all_cores >= 1
    for text, count in (
        ("max 100000\n", all_cores),
        ("100000 100000\n", 1),
        ("1000 100000\n", 1),
        ("102400000 100000\n", all_cores),
    ):
        (tmp_path / "cpu.max").write_text(text)
        assert usable_cores(tmp_path / "cpu.max") == count
