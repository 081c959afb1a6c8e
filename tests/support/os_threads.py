"""The threads of this process, as the system counts them, including those of libraries."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

_TASKS = Path("/proc/self/task")

needs_counting = pytest.mark.skipif(not _TASKS.is_dir(), reason="only Linux lists threads")


def num_os_threads() -> int:
    gc.collect()  # engines of earlier tests
    return sum(1 for _ in _TASKS.iterdir())
