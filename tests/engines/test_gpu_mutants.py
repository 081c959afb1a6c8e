"""Broken code of the GPU fails a test: every mutant in `gpu_mutants.diff`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.source_mutants import Mutant, mutants_in, survivors

MUTANTS = [*mutants_in(Path(__file__).with_name("gpu_mutants.diff"))]
NAMES = [
    "open_plan",
    "gpu_memory",
    "gpu_captures",
    "device_memory",
    "plan_set",
    "plan_engine",
    "tensorrt_plan",
]
TESTS = [f"tests/engines/test_{name}.py" for name in NAMES]


def test_every_mutant_is_of_the_present_source() -> None:
    assert len(MUTANTS) > 100
    for mutant in MUTANTS:
        compile(mutant.source, mutant.file, "exec")


IN_FORKS = pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forks")


@IN_FORKS
def test_a_mutant_that_changes_nothing_survives() -> None:
    harmless = Mutant(
        "device_memory.py", "class Blocks:\n", "class Blocks:  # a comment changes nothing\n"
    )
    broken = next(mutant for mutant in MUTANTS if "tensors, scratch" in mutant.old)
    assert survivors([harmless, broken], ["tests/engines/test_device_memory.py"]) == [harmless]


@pytest.mark.full
@IN_FORKS
def test_every_mutant_fails_a_test() -> None:
    assert survivors(MUTANTS, TESTS) == []
