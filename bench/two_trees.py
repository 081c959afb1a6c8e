"""This tree compared with another checkout of it: `import sdrt`, and what a step costs outside of the
networks. Usage: python bench/two_trees.py OTHER_CHECKOUT.

The two take turns, each round in new interpreters, and what is recorded is the ratio of each round.
The networks are functions that return at once, so what is left of a step is sdrt's own work: sampler,
guidance, the check for NaN, and checking the feeds. It is the slope of a request's wall time over its
steps, so that what is done once per request does not count.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

from recording import Measurement, record

from sdrt_engines.packages import installed_versions

HERE = Path(__file__).parents[1]
ROOTS = ("runtime", "engines", "export")
SCHEDULERS = ("euler", "dpmpp_2m")
STEP = """
import sys, time
import numpy as np
import sdrt
from sdrt_engines import FunctionEngine, resolve_target, shape_at

def constant(signature):
    cache = {}
    def answer(feeds):
        shapes = tuple(feed.shape for feed in feeds.values())
        if shapes not in cache:
            sizes = {dim: size for spec in signature.inputs
                     for dim, size in zip(spec.shape, feeds[spec.name].shape) if isinstance(dim, str)}
            cache[shapes] = {spec.name: np.full(shape_at(spec, sizes), 0.5, spec.dtype)
                             for spec in signature.outputs}
        return cache[shapes]
    return answer

def seconds(num_steps):
    start = time.perf_counter()
    pipeline("a red circle", height=512, width=512, num_inference_steps=num_steps,
             guidance_scale=7.5, scheduler=sys.argv[1], seed=0)
    return time.perf_counter() - start

bundle = sdrt.Bundle.open("demo")
engines = {each.name: FunctionEngine(each.signature, constant(each.signature))
           for each in bundle.manifest.components}
pipeline = sdrt.Pipeline(bundle, resolve_target("cpu"), engines)
seconds(50)
print(min(seconds(410) for _ in range(5)) / 400 - min(seconds(10) for _ in range(5)) / 400)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("other", type=Path, help="another checkout")
    parser.add_argument("--rounds", type=int, default=20)
    options = parser.parse_args()
    other = options.other.resolve()
    commit = subprocess.check_output(["git", "-C", other, "rev-parse", "--short", "HEAD"], text=True)

    measurements = []
    for name, measure in (
        ("import sdrt", import_ms),
        *((f"{scheduler}, one step", step_ms(scheduler)) for scheduler in SCHEDULERS),
    ):
        for root in (HERE, other):
            measure(root)  # warm-up: writes bytecode
        pairs = [(measure(HERE), measure(other)) for _ in range(options.rounds)]
        notes = {"other": commit.strip(), "other's median": median([b for _, b in pairs])}
        notes["median of the ratios"] = median([a / b for a, b in pairs])
        values = tuple(a for a, _ in pairs)
        versions = installed_versions("sdrt", "numpy")
        measurements.append(Measurement(name, "ms", values, versions, notes))
    record("two_trees", measurements)


def import_ms(root: Path) -> float:
    """From the start to the end of an interpreter that imports sdrt, over a bare one."""

    def milliseconds(statement: str) -> float:
        start = time.perf_counter()
        run(root, statement)
        return (time.perf_counter() - start) * 1000

    return milliseconds("import sdrt") - milliseconds("pass")


def step_ms(scheduler: str):
    """Measures a step with that scheduler."""
    return lambda root: float(run(root, STEP, scheduler)) * 1000


def run(root: Path, program: str, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(str(root / each) for each in ROOTS)}
    command = [sys.executable, "-c", program, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, text=True, check=True
    ).stdout


def median(values: list[float]) -> float:
    ordered = sorted(values)
    middle = len(ordered) // 2
    return round((ordered[middle] + ordered[-1 - middle]) / 2, 4)


if __name__ == "__main__":
    main()
