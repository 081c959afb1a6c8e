"""Asks for many rows, run in as many parts as memory requires."""

from __future__ import annotations

import math
from dataclasses import replace

from sdrt.ask import Answer, Ask, joint, part_of
from sdrt.targets.engines import Engines
from sdrt.targets.evaluation import checked_answer
from sdrt.timings import LOADING
from sdrt_engines import OutOfMemoryError

MAX_BYTES = 2**21  # of the feeds that change, in one run: the latents of 32 images of 512×512


def answer_in_parts(ask: Ask, engines: Engines) -> Answer:
    """The answer to an ask. A row does not depend on others, so the parts give the same numbers.

    Raises the errors of `checked_answer`; `OutOfMemoryError` if one row is too large.
    """
    bytes_per_row = _bytes_per_row(ask)
    kind = ask.chain[-1].component, bytes_per_row
    max_rows = engines.max_rows.get(kind, max(1, MAX_BYTES // bytes_per_row))
    max_rows = min(max_rows, engines.memory.max_rows(ask))
    while True:
        size = min(max_rows, ask.num_rows)
        try:
            return _in_parts(ask, size, engines)
        except OutOfMemoryError:
            if size == 1:
                raise
        max_rows = engines.max_rows[kind] = math.ceil(size / 2)


def _in_parts(ask: Ask, size: int, engines: Engines) -> Answer:
    rows = range(ask.num_rows)
    if len(rows) <= size:
        return _answer(ask, engines)
    starts = rows[::size]
    return joint([_answer(part_of(ask, rows[i : i + size]), engines) for i in starts])


def _answer(ask: Ask, engines: Engines) -> Answer:
    with engines.running(ask) as loading:
        answer = checked_answer(ask, engines)
    return replace(answer, seconds={LOADING: loading, **answer.seconds})


def _bytes_per_row(ask: Ask) -> int:
    arrays = ask.chain[-1].changing.values()
    return sum(array.nbytes for array in arrays if array.ndim) // ask.num_rows
