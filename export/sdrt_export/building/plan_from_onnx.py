"""An ONNX graph to a TensorRT plan, through polygraphy: `tensorrt` and `tensorrt-rtx` alike.

Each plan is built by its own process (`python -m sdrt_export.building.plan_from_onnx JOB`).
polygraphy decides at its first import which of the two libraries it drives; a builder that runs out
of memory is killed by the OS without taking the caller down; and its peak memory can be measured.

Tried and rejected: plans without weights, refitted from the bundle's ONNX when they are opened
(`strip_plan`). TensorRT-RTX 1.7.1 does not build one of Stable Diffusion's networks without a GPU
(`graph_jit.cpp: CHECK(status == CUDA_SUCCESS) failed`), but builds all of them with weights.
"""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sdrt_engines.operating_system import is_disk_full, peak_memory
from sdrt_engines.shape_profiles import Profile
from sdrt_export.errors import BuildError

_USE_RTX = "POLYGRAPHY_USE_TENSORRT_RTX"
_NO_SPACE = 75  # exit code: EX_TEMPFAIL


@dataclass(frozen=True)
class PlanJob:
    """The task of the building process."""

    model: Path
    plan: Path  # to write
    rtx: bool  # with TensorRT-RTX, else with TensorRT
    profiles: tuple[Profile, ...]
    architectures: tuple[str, ...] = ()
    timing_cache: Path | None = None  # read and updated

    def to_json(self) -> str:
        profiles = [profile.to_json() for profile in self.profiles]
        cache = self.timing_cache and str(self.timing_cache)
        paths = {"model": str(self.model), "plan": str(self.plan), "timing_cache": cache}
        return json.dumps(vars(self) | {"profiles": profiles} | paths)

    @classmethod
    def from_json(cls, text: str) -> PlanJob:
        fields: dict[str, Any] = json.loads(text)
        return cls(
            model=Path(fields["model"]),
            plan=Path(fields["plan"]),
            rtx=fields["rtx"],
            profiles=tuple(map(Profile.from_json, fields["profiles"])),
            architectures=tuple(fields["architectures"]),
            timing_cache=fields["timing_cache"] and Path(fields["timing_cache"]),
        )


@dataclass(frozen=True)
class PlanFigures:
    """The cost of a build."""

    seconds: float
    peak_memory: int | None  # bytes; None if the system does not report it


def build_plan(name: str, job: PlanJob) -> PlanFigures:
    """Writes the plan of `job` in a new process.

    BuildError with TensorRT's reason if it fails; OSError(ENOSPC) if the disk is full. `name`
    begins the message.
    """
    environment = os.environ | {
        _USE_RTX: str(int(job.rtx)),
        "PYTHONPATH": os.pathsep.join(filter(None, sys.path)),
    }
    process = subprocess.run(
        [sys.executable, "-m", "sdrt_export.building.plan_from_onnx", job.to_json()],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if process.returncode == _NO_SPACE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(job.plan))
    if process.returncode:
        raise BuildError(
            f"{name}: {failure_of(process.returncode, process.stdout, process.stderr)}"
        )
    figures = json.loads(process.stdout.splitlines()[-1])
    return PlanFigures(**figures)


def failure_of(code: int, *outputs: str) -> str:
    """The reason why a building process with this exit code and output failed, with a remedy."""
    if code == -9:
        return (
            "the system ended the build, most likely for lack of memory: close other programs, or "
            "build on a machine with more memory"
        )
    lines = [line.strip() for output in outputs for line in output.splitlines()]
    errors = [line for line in lines if "[E]" in line or "[!]" in line or "Error" in line]
    reason = (errors or lines or [f"exit code {code}"])[0 if errors else -1]
    return f"TensorRT cannot build it: {reason}: try another precision, or report this"


def plan_from_onnx(job: PlanJob) -> Any:
    """The serialised plan, built in this process, as a buffer.

    If polygraphy is loaded already, it must be loaded for the same library.
    """
    os.environ[_USE_RTX] = str(int(job.rtx))
    from polygraphy.backend.trt import engine_bytes_from_network, network_from_onnx_path
    from polygraphy.logger import G_LOGGER

    G_LOGGER.module_severity = G_LOGGER.ERROR
    network = network_from_onnx_path(str(job.model), strongly_typed=True)
    saved = {} if job.timing_cache is None else {"save_timing_cache": str(job.timing_cache)}
    return engine_bytes_from_network(network, config=_config(job), **saved)


def _config(job: PlanJob) -> Any:
    from polygraphy.backend.trt import CreateConfig
    from polygraphy.backend.trt import Profile as PolygraphyProfile

    profiles = []
    for profile in job.profiles:
        bounds = PolygraphyProfile()
        least, best, most = (profile.shapes(end) for end in ("min", "opt", "max"))
        for name in profile.inputs:
            bounds.add(name, min=least[name], opt=best[name], max=most[name])
        profiles.append(bounds)
    if job.rtx:
        from polygraphy.backend.tensorrt_rtx import CreateConfigRTX

        capabilities = [capability_of(name) for name in job.architectures]
        return CreateConfigRTX(profiles=profiles, compute_capabilities=capabilities or None)
    cache = job.timing_cache if job.timing_cache and job.timing_cache.exists() else None
    return CreateConfig(profiles=profiles, load_timing_cache=cache and str(cache))


def capability_of(architecture: str) -> tuple[int, int]:
    """(8, 9) for "sm89", (12, 0) for "sm120"."""
    number = int(architecture.removeprefix("sm"))
    return number // 10, number % 10


def main(arguments: Sequence[str]) -> int:
    """Builds the plan of the job given as JSON, and prints its figures."""
    import time

    job = PlanJob.from_json(arguments[0])
    start = time.perf_counter()
    plan = plan_from_onnx(job)
    try:
        with job.plan.open("wb") as file:
            file.write(plan)
    except OSError as error:
        if is_disk_full(error):
            return _NO_SPACE
        raise
    figures = {"seconds": time.perf_counter() - start, "peak_memory": peak_memory()}
    sys.stdout.write("\n" + json.dumps(figures) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
