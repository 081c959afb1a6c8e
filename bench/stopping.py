"""The cost of being interruptible: a call on the worker thread, less the same call made directly.

Each run of a network on the CPU is such a call, so a step costs it once or, with ControlNets or
guidance in parts, a few times.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

from recording import Measurement, record

from sdrt_engines.interruptible import interruptible
from sdrt_engines.packages import installed_versions

CALLS = 2000  # of one value
TARGET = 50  # µs


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds

    interruptible(nothing)  # starts the worker
    values = tuple(
        microseconds_of(lambda: interruptible(nothing)) - microseconds_of(nothing)
        for _ in range(rounds)
    )
    notes = {"target": f"at most {TARGET} µs", "each": f"the median of {CALLS} calls"}
    record(
        "stopping",
        [
            Measurement(
                "a call on the worker thread", "µs", values, installed_versions("sdrt"), notes
            )
        ],
    )


def nothing() -> None:
    pass


def microseconds_of(call: Callable[[], object]) -> float:
    """The median of many calls: the machine may be busy with something else for a moment."""
    seconds = []
    for _ in range(CALLS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds) * 1e6


if __name__ == "__main__":
    main()
