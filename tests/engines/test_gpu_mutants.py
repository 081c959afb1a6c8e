"""Broken code of the GPU fails a test: every mutant in `gpu_mutants.diff`."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from support.source_mutants import mutants_in, survivors

MUTANTS = [*mutants_in(Path(__file__).with_name("gpu_mutants.diff"))]
NAMES = ["open_plan", "gpu_memory", "gpu_captures", "device_memory", "plan_set", "plan_engine"]
TESTS = [f"tests/engines/test_{name}.py" for name in NAMES]


def test_every_mutant_is_of_the_present_source() -> None:
    assert len(MUTANTS) > 100
    for mutant in MUTANTS:
        compile(mutant.source, mutant.file, "exec")


@pytest.mark.full
@pytest.mark.skipif(not hasattr(os, "fork"), reason="mutants run in forks")
def test_every_mutant_fails_a_test() -> None:
    assert survivors(MUTANTS, TESTS) == []
