"""This tree compared with another checkout: `import sdrt`, and a step without its networks.

The two take turns, in new interpreters each round, and each round gives a ratio. The time of a step
is the slope of a request's wall time over its steps; the networks are functions that return at
once.

    python bench/two_trees.py OTHER_CHECKOUT
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from checkouts import HERE, commit_of, environment_of
from recording import Measurement, record

from sdrt_engines.packages import installed_versions

SCHEDULERS = ("euler", "dpmpp_2m")
STEP = """
import sys, time
from host_time import pipeline_without_networks

def seconds(num_steps):
    start = time.perf_counter()
    pipeline("a red circle", height=512, width=512, num_inference_steps=num_steps,
             guidance_scale=7.5, scheduler=sys.argv[1], seed=0)
    return time.perf_counter() - start

pipeline = pipeline_without_networks()
seconds(50)
short, long = (min(seconds(num_steps) for _ in range(7)) for num_steps in (10, 410))
print((long - short) / 400)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    other = options.other.resolve()
    steps = {f"{scheduler}, one step": step_of(scheduler) for scheduler in SCHEDULERS}
    record(
        "two_trees",
        [
            compared(name, measure, other, options.rounds)
            for name, measure in {"import sdrt, over bare Python": import_time, **steps}.items()
        ],
    )


def compared(name: str, measure: Callable[[Path], float], other: Path, rounds: int) -> Measurement:
    """The milliseconds in this tree, with the ratio to the other's in the notes."""
    measure(HERE), measure(other)  # warm-up: writes bytecode
    pairs = [(measure(HERE), measure(other)) for _ in range(rounds)]
    notes = {
        "other": commit_of(other),
        "other's median": round(statistics.median(theirs for _, theirs in pairs), 4),
        "ratio": round(statistics.median(ours / theirs for ours, theirs in pairs), 4),
    }
    versions = installed_versions("sdrt", "numpy")
    return Measurement(name, "ms", tuple(ours for ours, _ in pairs), versions, notes)


def import_time(root: Path) -> float:
    return milliseconds(root, "import sdrt") - milliseconds(root, "pass")


def milliseconds(root: Path, statement: str) -> float:
    """The time of an interpreter, from start to end."""
    start = time.perf_counter()
    run(root, statement)
    return (time.perf_counter() - start) * 1000


def step_of(scheduler: str) -> Callable[[Path], float]:
    return lambda root: float(run(root, STEP, scheduler)) * 1000


def run(root: Path, program: str, *arguments: str) -> str:
    """The output of a program that imports sdrt from `root`."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        env=environment_of(root, HERE / "bench"),
        capture_output=True,
        text=True,
        check=True,
    ).stdout


if __name__ == "__main__":
    main()
