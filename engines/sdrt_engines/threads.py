"""The number of CPU threads that an engine uses."""

from __future__ import annotations

import os

from sdrt_engines.errors import EngineError, quoted

MAX_THREADS = 1024  # more than processors have: a typo
# ONNX Runtime's threads wait actively: hundreds on a few processors take minutes for a second.
_MAX_THREADS_PER_PROCESSOR = 8


def require_num_threads(num_threads: object, most: int | None = None) -> None:
    """EngineError unless it is a number of threads, or None: the library's choice.

    `most` is by default what this machine can use.
    """
    if num_threads is None:
        return
    most = most or min(MAX_THREADS, _MAX_THREADS_PER_PROCESSOR * (os.cpu_count() or 1))
    is_whole = isinstance(num_threads, int) and not isinstance(num_threads, bool)
    if is_whole and num_threads in range(1, most + 1):
        return
    raise EngineError(
        f"num_threads: got {quoted(num_threads)}, expected a whole number from 1 to {most} "
        f"({os.cpu_count()} processors): leave it out to use every physical core"
    )
