"""The command of a course: its options, and a run from the environments to the last visit."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from peers.environments import make_environments
from peers.models import make_models
from peers.schedule import Row, race_in, run_visits
from peers.visits import Course, Visit

SCRATCH = Path(__file__).parents[1] / "scratch" / "peers"


def parser(description: str | None) -> argparse.ArgumentParser:
    """The options that all courses have."""
    found = argparse.ArgumentParser(description=description)
    found.add_argument("--work", type=Path, default=SCRATCH)
    found.add_argument("--new", action="store_true", help="start a new run")
    found.add_argument("--threads", type=int, default=os.cpu_count(), help="for every contestant")
    found.add_argument("--minutes", type=float, default=90, help="start no visit after these")
    found.add_argument(
        "--prepare", action="store_true", help="create environments and models, then exit"
    )
    return found


def run_course(
    options: argparse.Namespace,
    course: Course,
    models: Mapping[str, Callable[[Path, Path], None]],
    missing: Callable[[Sequence[Row]], Iterator[Visit]],
) -> None:
    """Creates what is missing, then makes the visits that the run has not made yet."""
    work = options.work.resolve()
    make_environments(work)
    make_models(work / course.models, models)
    if not options.prepare:
        race = race_in(work, course, options.threads, new=options.new)
        run_visits(race, missing, options.minutes)
