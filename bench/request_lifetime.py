"""From process start to the end of the first step, and the peak memory of a whole request, in this
tree and in another checkout: Stable Diffusion 1.5, full size, 512×512.

A new process for each image, in turns; the first round warms the disk cache and remembers which
files were verified, and is not counted. Random weights. Minutes for each way and round, and up to
8 GB of memory.

    python bench/request_lifetime.py BUNDLE OTHER_CHECKOUT --target cpu
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from checkouts import HERE, environment_of
from recording import Measurement, alone_on_the_machine, record

from sdrt_engines.packages import installed_versions

MIB = 2**20
PROGRAM = """
import json, sys, time
import sdrt
from sdrt_engines.operating_system import peak_memory

bundle, target, steps, opened, options, warm_up = json.loads(sys.argv[1])
with sdrt.Pipeline.open(bundle, target, **opened) as pipeline:
    if warm_up:
        pipeline.warm_up([(512, 512)])
    ready, ends = time.monotonic(), []
    stream = pipeline.stream("a red circle", height=512, width=512, num_inference_steps=steps,
                             guidance_scale=7.5, seed=0, **options)
    for _ in stream:
        ends.append(time.monotonic())
    print(json.dumps({"ready": ready, "ends": ends, "image": time.monotonic(),
                      "peak": peak_memory(), "stages": dict(stream.result.timings.seconds)}))
"""


@dataclass(frozen=True)
class Way:
    """A way to make the image."""

    name: str
    root: Path = HERE
    opened: Mapping[str, Any] = field(default_factory=dict)  # of `Pipeline.open`
    options: Mapping[str, Any] = field(default_factory=dict)  # of the request
    warm_up: bool = False
    remembers: bool = True  # which files were verified, from the process before


FIGURES: Mapping[str, tuple[str, Callable[[Mapping[str, Any]], float]]] = {
    "start to first step, less a later step": ("s", lambda found: found["first"] - found["step"]),
    "ready to first step, less a later step": (
        "s",
        lambda found: found["first"] - found["ready"] - found["step"],
    ),
    "start to image": ("s", lambda found: found["image"]),
    "a later step": ("s", lambda found: found["step"]),
    "peak memory": ("MiB", lambda found: found["peak"] / MIB),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("other", type=Path, help="another checkout")
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", nargs="+", help="the names of some ways (default: all)")
    parser.add_argument("--note", default="", help="what the bundle holds")
    options = parser.parse_args()
    ways = [
        Way("before", options.other.resolve()),
        Way("files hashed", remembers=False),
        Way("now"),
        Way("last request", options={"last": True}),
        Way("low memory", opened={"low_memory": True}),
        Way("warmed up", warm_up=True),
    ]
    if options.only:
        ways = [way for way in ways if way.name in options.only]
    found: dict[str, list[dict[str, Any]]] = {way.name: [] for way in ways}
    with alone_on_the_machine(), tempfile.TemporaryDirectory() as cache:
        for number in range(options.rounds + 1):
            for way in ways:
                each = seconds_and_memory(way, options, Path(cache))
                sys.stdout.write(f"{number} {way.name}: {each}\n")
                sys.stdout.flush()
                if number:
                    found[way.name].append(each)
    settings = {"target": options.target, "steps": options.steps, "bundle": options.note}
    for way in ways:
        record("request_lifetime", measurements(way.name, found, settings))


def seconds_and_memory(way: Way, options: argparse.Namespace, cache: Path) -> dict[str, Any]:
    """The seconds from the start of a process to what it does, and its peak memory in bytes."""
    arguments = str(options.bundle.resolve()), options.target, options.steps
    environment = environment_of(way.root) | {
        "SDRT_CACHE": str(cache if way.remembers else cache / "none" / str(time.time_ns())),
    }
    text = json.dumps([*arguments, way.opened, way.options, way.warm_up])
    start = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, text], env=environment, check=True, stdout=subprocess.PIPE
    )
    found: dict[str, Any] = json.loads(done.stdout)
    ends = [end - start for end in found["ends"]]
    later = [after - before for before, after in pairwise(ends[1:])]
    return {
        "ready": found["ready"] - start,
        "first": ends[0],
        "step": statistics.median(later),
        "image": found["image"] - start,
        "peak": found["peak"],
        "stages": found["stages"],
    }


def measurements(
    name: str, found: Mapping[str, list[dict[str, Any]]], settings: Mapping[str, Any]
) -> list[Measurement]:
    """The figures of a way, with the ratio of each round to that before."""
    versions = installed_versions("sdrt", "onnxruntime", "openvino")
    result = []
    for figure, (unit, value) in FIGURES.items():
        values = tuple(map(value, found[name]))
        notes = dict(settings)
        if "before" in found:
            ratios = [a / b for a, b in zip(values, map(value, found["before"]), strict=True)]
            notes["ratio to before"] = round(statistics.median(ratios), 3)
        result.append(Measurement(f"{name}: {figure}", unit, values, versions, notes))
    return result


if __name__ == "__main__":
    main()
