"""Memory that the running requests of this process were granted and may not have taken yet."""

from __future__ import annotations

import os
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from sdrt.errors import SdrtError, quoted
from sdrt_engines import FreeMemory, free_memory, resident_memory
from sdrt_engines.forks import Inherited
from sdrt_engines.nvidia_driver import free_gpu_memory

VARIABLE = "SDRT_MEMORY_LIMIT"
OFF = "off"

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


class Reservations(Inherited):
    """Grants memory to requests; safe for several threads. `in_use` are the bytes that this process
    occupies."""

    def __init__(
        self, free: Callable[[], FreeMemory | None], in_use: Callable[[], int | None]
    ) -> None:
        super().__init__()
        self._free, self._in_use = free, in_use
        self._begin_in_child()

    def _begin_in_child(self) -> None:
        self._lock = threading.Lock()
        self._granted: dict[object, int] = {}
        self._before = 0  # in use when the first of these was granted

    def free(self) -> FreeMemory | None:
        """The free memory without what was granted to others; None if it is not limited."""
        free = self._free()
        if free is None or not self._granted:
            return free
        taken = (self._in_use() or 0) - self._before
        outstanding = max(sum(list(self._granted.values())) - taken, 0)
        return FreeMemory(max(free.size - outstanding, 0), free.limit)

    @contextmanager
    def granted(self, choose: Callable[[], int]) -> Iterator[None]:
        """Grants the bytes that `choose` returns, until the block ends."""
        key = object()
        with self._lock:
            size = choose()
            if not self._granted:
                self._before = self._in_use() or 0
            self._granted[key] = size
        try:
            yield
        finally:
            # Without the lock: the garbage collector ends a stream that was left in any thread, at
            # any moment, maybe while that thread holds it. A fork may have forgotten the key.
            self._granted.pop(key, None)


def _free_for_process() -> FreeMemory | None:
    limit = os.environ.get(VARIABLE, "")
    if limit == OFF:
        return None
    free = free_memory()
    if not limit:
        return free
    left = max(bytes_from_text(limit) - (resident_memory() or 0), 0)
    within = FreeMemory(left, f"within {VARIABLE}")
    return within if free is None or left < free.size else free


def _free_on_gpu() -> FreeMemory | None:
    return None if os.environ.get(VARIABLE) == OFF else free_gpu_memory()


def bytes_from_text(text: str) -> int:
    """The bytes of `20GiB` or `512M`. SdrtError for anything else."""
    found = re.fullmatch(
        r"(\d{1,15}(?:\.\d{1,6})?)\s*([KMGT]?)(?:i?B)?", text.strip(), re.IGNORECASE
    )
    if found is None:
        raise SdrtError(
            f"{VARIABLE}: got {quoted(text)}, expected a size such as 20GiB, or '{OFF}'"
        )
    return int(float(found[1]) * _UNITS[found[2].upper()])


IN_MEMORY: Final = Reservations(_free_for_process, resident_memory)
ON_GPU: Final = Reservations(_free_on_gpu, lambda: None)
