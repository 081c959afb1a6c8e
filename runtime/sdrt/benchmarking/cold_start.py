"""The time that a new process takes to its first image, and the memory that it uses."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sdrt.benchmarking.figures import Figure
from sdrt.benchmarking.workload import SETTINGS, Workload, require_one_target
from sdrt.errors import SdrtError

COLD, WARMED = "cold start", "warmed start"  # the beginnings of the figures' names
EVENTS = {  # of the process, with the names of their figures
    event: f"{COLD} to {event}" for event in ("ready", "first step", "first image")
}
_MEMORY = {"peak memory": "peak memory", "GPU memory": "GPU memory in use"}


@dataclass(frozen=True)
class ColdStart:
    """One new process: seconds from its start to each event, and bytes of memory if known."""

    seconds: Mapping[str, float]
    memory: Mapping[str, int]
    target: str


def cold_start(workload: Workload, *, warm_up: bool = False) -> ColdStart:
    """Starts Python, imports sdrt, opens the bundle and generates one image, in a new process,
    which is ready when it has opened the bundle or, with `warm_up`, run every network.

    Raises `SdrtError` with the process's message if it fails.
    """
    request = {name: getattr(workload.request, name) for name in SETTINGS}
    opening = {name: getattr(workload, name) for name in ("bundle", "target", "num_threads")}
    sizes = [(workload.request.height, workload.request.width)]
    options = {name: request[name] for name in ("guidance_scale", "scheduler")}
    warming = {"sizes": sizes, **options} if warm_up else None
    events = _events({"open": opening, "request": request, "warm_up": warming})
    last = events["first image"]
    return ColdStart(
        seconds={event: events[event]["seconds"] for event in EVENTS},
        memory={name: last[name] for name in _MEMORY if last[name] is not None},
        target=last["target"],
    )


def cold_start_figures(starts: Sequence[ColdStart]) -> Iterator[Figure]:
    """The seconds and the memory of new processes, without memory that is unknown."""
    yield from start_figures(COLD, starts)
    for kind, name in _MEMORY.items():
        if all(kind in start.memory for start in starts):
            megabytes = tuple(start.memory[kind] / 1e6 for start in starts)
            yield Figure(name, "MB", megabytes, starts[0].target)


def start_figures(kind: str, starts: Sequence[ColdStart]) -> Iterator[Figure]:
    """The seconds of new processes, all on one target."""
    target = starts[0].target
    for start in starts:
        require_one_target(target, start.target)
    for event in EVENTS:
        seconds = tuple(start.seconds[event] for start in starts)
        yield Figure(f"{kind} to {event}", "s", seconds, target)


def _events(arguments: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The events that the process reports; `seconds` counts from its start."""
    command = [sys.executable, "-P", "-m", "sdrt.benchmarking.first_image", json.dumps(arguments)]
    path = os.pathsep.join(filter(None, sys.path))  # the process finds the same modules
    events: dict[str, dict[str, Any]] = {}
    start = time.perf_counter()
    with subprocess.Popen(
        command, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            seconds = time.perf_counter() - start
            if line.startswith('{"event"'):  # libraries may write other lines
                event = json.loads(line)
                events[event["event"]] = {**event, "seconds": seconds}
    if "error" in events:
        raise SdrtError(events["error"]["message"])
    if "first image" not in events:
        raise SdrtError(
            f"the process that measures the cold start exited with {process.returncode} before its "
            "first image: try `sdrt run`, or leave this out with --cold-starts 0"
        )
    return events
