"""The number of CPU threads that an engine uses."""

from __future__ import annotations

from sdrt_engines.errors import EngineError, quoted

MAX_THREADS = 1024  # more than processors have: a typo


def require_num_threads(num_threads: object) -> None:
    """EngineError unless it is a number of threads, or None: the library's choice."""
    if num_threads is None:
        return
    is_whole = isinstance(num_threads, int) and not isinstance(num_threads, bool)
    if is_whole and num_threads in range(1, MAX_THREADS + 1):
        return
    raise EngineError(
        f"num_threads: got {quoted(num_threads)}, expected a whole number from 1 to {MAX_THREADS}: "
        "leave it out to use every physical core"
    )
