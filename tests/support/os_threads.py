"""The threads of this process, as the system counts them, including those of libraries."""

from __future__ import annotations

import gc
from pathlib import Path

import pytest

_TASKS = Path("/proc/self/task")

needs_counting = pytest.mark.skipif(not _TASKS.is_dir(), reason="only Linux lists threads")


def os_threads() -> set[str]:
    """Their numbers. A count would also change when a thread of an earlier test ends."""
    gc.collect()  # engines of earlier tests
    return {path.name for path in _TASKS.iterdir()}
