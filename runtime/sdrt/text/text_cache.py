"""The states of recent prompts, so that a prompt that comes again does not run its encoder."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Hashable

import numpy as np

from sdrt_engines import Array

MAX_BYTES = 2**25  # 32 MiB: 140 chunks of Stable Diffusion 1, 50 of SDXL


class TextCache:
    """Outputs of text encoders for one row of ids, before any weights; the least recently used ones
    go first. Safe to share between threads.

    `max_bytes` bounds the arrays; 0 keeps nothing.
    """

    def __init__(self, max_bytes: int = MAX_BYTES) -> None:
        self.max_bytes = max_bytes
        self.size = 0  # bytes
        self._rows: OrderedDict[Hashable, Array] = OrderedDict()
        self._changing = threading.Lock()

    def get(self, key: Hashable) -> Array | None:
        with self._changing:
            if key in self._rows:
                self._rows.move_to_end(key)
            return self._rows.get(key)

    def put(self, key: Hashable, row: Array) -> None:
        """Keeps a copy: the row may be a view of the outputs of all."""
        if row.nbytes > self.max_bytes:
            return
        kept = np.array(row)
        kept.flags.writeable = False
        with self._changing:
            self._forget(key)
            self._rows[key] = kept
            self.size += kept.nbytes
            while self.size > self.max_bytes:
                self._forget(next(iter(self._rows)))

    def _forget(self, key: Hashable) -> None:
        row = self._rows.pop(key, None)
        self.size -= 0 if row is None else row.nbytes
