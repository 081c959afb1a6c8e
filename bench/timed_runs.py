"""The time of one run of a network."""

from __future__ import annotations

import time
from collections.abc import Mapping

from sdrt_engines import Array, Engine


def seconds(engine: Engine, feeds: Mapping[str, Array]) -> float:
    start = time.perf_counter()
    engine.run(feeds)
    return time.perf_counter() - start
