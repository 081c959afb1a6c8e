"""One visit: a contestant's program in its own process, and its row."""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from recording import RESULTS, machine

from peers.contestants import ORACLE, SHORT, Contestant, Question
from peers.environments import measured_commit, python_of
from sdrt import arrays
from sdrt.targets.reservations import VARIABLE

PROGRAMS = Path(__file__).parent / "programs"
PROMPT, STRENGTH = "a lighthouse on a cliff at dawn", 0.5
INDUCTOR = "inductor"  # the folder of torch.compile's kernels
QUIET = {
    "HF_HUB_OFFLINE": "1",
    "OPENVINO_TELEMETRY_OPT_OUT": "1",
    "PYTHONWARNINGS": "ignore",
    "TRANSFORMERS_VERBOSITY": "error",
}


@dataclass(frozen=True)
class Visit:
    """A contestant's turn to answer a question. `round` counts from 1."""

    contestant: Contestant
    question: Question
    round: int

    @property
    def cold(self) -> bool:
        """True if the model's files are evicted from the system's file cache and compiled kernels
        are removed before the visit; else the files are read before it."""
        return self.round == 1 and self.question == SHORT

    @property
    def key(self) -> tuple[str, str, int]:
        return self.contestant.name, self.question.name, self.round


@dataclass(frozen=True)
class Course:
    """The model that all contestants run, and its conditions."""

    bench: str  # the name of the rows in results/
    models: str  # the folder of the model, in each contestant's format
    size: int  # pixels, height and width
    memory_limit: float = math.inf  # GiB of a process


SD15 = Course("peers", "models", 512)
SAVINGS = Course("savings", "models", 512)
SDXL = Course("sdxl_steps", "models-sdxl", 1024, memory_limit=18.0)


@dataclass(frozen=True)
class Race:
    """One run of a course on one machine: only its own rows are compared."""

    work: Path  # environments, models and images
    name: str
    num_threads: int
    course: Course

    @property
    def rows(self) -> Path:
        """The file with the rows of all runs of the course."""
        return RESULTS / f"{self.course.bench}.jsonl"

    def model(self, name: str) -> Path:
        return self.work / self.course.models / name


@dataclass(frozen=True)
class Ended:
    """A finished process."""

    begin: float
    end: float
    output: str
    error: str | None  # the reason for a missing report, or None
    usage: resource.struct_rusage


def visited(visit: Visit, race: Race) -> dict[str, Any]:
    """The row of a visit. A failure is a row too, with its reason."""
    model = race.model(visit.contestant.model)
    if visit.cold:
        evict(model)
        shutil.rmtree(race.work / INDUCTOR, ignore_errors=True)
    else:
        read([model / folder for folder in visit.contestant.reads])
    ended = run_program(visit, race, job_of(visit, race))
    row = {
        "bench": race.course.bench,
        "run": race.name,
        "contestant": visit.contestant.name,
        "question": asdict(visit.question),
        "round": visit.round,
        "files": "cold" if visit.cold else "warm",
        "threads": race.num_threads,
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "sdrt_commit": measured_commit(race.work),
        "peak_mib": round(ended.usage.ru_maxrss / 1024),
        "whole_process": round(ended.end - ended.begin, 3),
        "processor_time": round(ended.usage.ru_utime + ended.usage.ru_stime, 1),
    }
    if ended.error is not None:
        return row | {"error": ended.error}
    report = json.loads(ended.output.splitlines()[-1])
    return row | figures_of(report, ended.begin) | {"psnr": psnr_of(visit, race)}


def figures_of(report: Mapping[str, Any], begin: float) -> dict[str, Any]:
    """Seconds. `first_*` count from the start of the process, the others are of the warm image."""
    first, warm = report["first"], report["warm"]
    ends = warm["step_ends"]
    steps = [after - before for before, after in pairwise(ends)]
    return {
        "ready": round(report["ready"] - begin, 3),
        "first_step": round(first["step_ends"][0] - begin, 3) if first["step_ends"] else None,
        "first_image": round(first["end"] - begin, 3),
        "steps": [round(step, 4) for step in steps],
        "image": round(warm["end"] - warm["begin"], 3),
        "num_calls": warm.get("num_calls"),
        "stages": {name: round(seconds, 4) for name, seconds in warm["stages"].items()},
        "versions": report["versions"],
    }


def job_of(visit: Visit, race: Race) -> dict[str, Any]:
    """The job for `programs/protocol.py`."""
    question = visit.question
    return {
        "model": str(race.model(visit.contestant.model)),
        "controlnet": str(race.model("controlnet")),
        "noise": str(race.model("inputs") / "noise.npy"),
        "image": str(race.model("inputs") / "image.png"),
        "images": str(images_path(visit.contestant.name, question, race)),
        "first_steps": question.first_steps,
        "steps": question.steps,
        "kind": question.kind,
        "num_images": question.num_images,
        "num_threads": race.num_threads,
        "decode": question.decode,
        "size": race.course.size,
        "prompt": PROMPT,
        "guidance_scale": question.guidance_scale,
        "strength": STRENGTH,
        "options": dict(visit.contestant.options),
    }


def run_program(visit: Visit, race: Race, job: Mapping[str, Any]) -> Ended:
    """Waits for the process, or ends it at its time limit."""
    program = PROGRAMS / visit.contestant.program
    command = [python_of(race.work, visit.contestant.environment), program, json.dumps(job)]
    cache = {"TORCHINDUCTOR_CACHE_DIR": str(race.work / INDUCTOR)}
    limit = race.course.memory_limit
    if math.isfinite(limit):
        cache[VARIABLE] = f"{limit:g}GiB"
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        begin = time.time()
        process = subprocess.Popen(
            command, stdout=out, stderr=err, env={**os.environ, **QUIET, **cache}
        )
        error, usage = wait(process, begin + visit.contestant.time_limit, limit)
        end = time.time()
        out.seek(0), err.seek(0)
        output, complaint = out.read().decode(), err.read().decode(errors="replace")
    if error is None and process.returncode:
        error = f"exit code {process.returncode}: {complaint.strip()[-300:]}"
    return Ended(begin, end, output, error, usage)


def wait(
    process: subprocess.Popen[bytes], deadline: float, most_gib: float = math.inf
) -> tuple[str | None, resource.struct_rusage]:
    """The reason why the process was ended early, or None, and its resource usage."""
    error = None
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            return error, usage
        if error is None and time.time() > deadline:
            error = "it was ended at its time limit"
            process.kill()
        if error is None and resident_gib(process.pid) > most_gib:
            error = f"it needed more than {most_gib:g} GiB"
            process.kill()
        time.sleep(0.05)


def resident_gib(pid: int) -> float:
    """The memory of a process; 0 if it has just ended."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    except (OSError, IndexError):
        return 0.0
    return pages * resource.getpagesize() / 2**30


def evict(folder: Path) -> None:
    """Evicts a folder's files from the system's file cache."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fdatasync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def read(folders: Sequence[Path]) -> None:
    """Reads the files of the folders into the system's file cache."""
    for path in (path for folder in folders for path in sorted(folder.rglob("*"))):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 24):
                    pass


def images_path(contestant: str, question: Question, race: Race) -> Path:
    return race.work / "images" / race.name / question.name / f"{contestant}.npy"


def psnr_of(visit: Visit, race: Race) -> float | None:
    """The PSNR to the oracle's images, in dB; None until the oracle has answered."""
    oracle = images_path(ORACLE, visit.question, race)
    if visit.contestant.name == ORACLE or not oracle.exists():
        return None
    got = np.load(images_path(visit.contestant.name, visit.question, race))
    found = arrays.psnr_of(np.load(oracle), got)
    return round(found, 1) if math.isfinite(found) else None
