"""Images of one size, and of several sizes in turn, one after the other and from four threads.

The demo model, on the targets `cpu` and `openvino`. All sizes have nearly the same number of
pixels, so the time of an image would not depend on the case if changing the shape were free. The
first round opens the networks, and compiles them if a target does; later rounds are measured. Each
case is a process of its own. With another checkout, both trees take turns.

    python bench/shapes_in_turn.py [OTHER_CHECKOUT]
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from checkouts import HERE, commit_of, environment_of
from recording import Measurement, alone_on_the_machine, record

from sdrt_engines.packages import installed_versions

SIZES = (
    *((64, 128), (128, 64), (72, 112), (112, 72), (80, 104), (104, 80)),
    *((88, 96), (96, 88), (96, 80)),
)
ROUNDS, STEPS = 3, 4
TARGETS = ("cpu", "openvino")


@dataclass(frozen=True)
class Case:
    """Nine images, with a number of sizes in turn, from a number of threads."""

    num_sizes: int
    num_threads: int

    def __str__(self) -> str:
        sizes = "1 size" if self.num_sizes == 1 else f"{self.num_sizes} sizes in turn"
        return sizes + (f", {self.num_threads} threads" if self.num_threads > 1 else "")

    @property
    def sizes(self) -> list[tuple[int, int]]:
        return [SIZES[i % self.num_sizes] for i in range(len(SIZES))]


CASES = {str(case): case for case in (Case(n, threads) for threads in (1, 4) for n in (1, 3, 9))}


@dataclass(frozen=True)
class Figures:
    """Figures of a process: seconds per image in the first round and later; peak memory in GB."""

    first: float
    rounds: list[float]
    memory: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", nargs="?", type=Path, help="another checkout")
    parser.add_argument(
        "--only", nargs=2, metavar=("TARGET", "CASE"), help="print the figures of one case"
    )
    options = parser.parse_args()
    if options.only:
        target, case = options.only
        print(json.dumps(vars(figures_of(target, CASES[case]))))
        return
    with alone_on_the_machine():
        measurements = [
            measured(target, name, options.other) for target in TARGETS for name in CASES
        ]
    record("shapes_in_turn", measurements)


def measured(target: str, name: str, other: Path | None) -> Measurement:
    theirs = in_a_process(other, target, name) if other else None
    ours = in_a_process(HERE, target, name)
    notes = {"first round": round(ours.first, 3), "memory": f"{ours.memory:.2f} GB"}
    if other and theirs:
        notes |= {
            "other": commit_of(other),
            "other's median": round(statistics.median(theirs.rounds), 4),
            "other's first round": round(theirs.first, 3),
            "other's memory": f"{theirs.memory:.2f} GB",
        }
    versions = installed_versions("sdrt", "onnxruntime", "openvino")
    return Measurement(f"{target}, {name}", "s per image", tuple(ours.rounds), versions, notes)


def in_a_process(tree: Path, target: str, name: str) -> Figures:
    done = subprocess.run(
        [sys.executable, __file__, "--only", target, name],
        env=environment_of(tree),
        capture_output=True,
        text=True,
        check=True,
    )
    return Figures(**json.loads(done.stdout.splitlines()[-1]))


def figures_of(target: str, case: Case) -> Figures:
    import resource

    import sdrt

    with (
        sdrt.Pipeline.open("demo", target) as pipeline,
        ThreadPoolExecutor(case.num_threads) as pool,
    ):

        def generate(size: tuple[int, int]) -> None:
            width, height = size
            pipeline("a red circle", width=width, height=height, num_inference_steps=STEPS, seed=0)

        def seconds_per_image() -> float:
            start = time.perf_counter()
            list(pool.map(generate, case.sizes))
            return (time.perf_counter() - start) / len(case.sizes)

        first, *rounds = (seconds_per_image() for _ in range(1 + ROUNDS))
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return Figures(first, rounds, memory)


if __name__ == "__main__":
    main()
