"""SDXL's steps at 1024×1024 on this machine's CPU: sdrt, diffusers and OpenVINO GenAI.

As `bench/peers`, in the same environments: one process at a time, in turn, three rounds of two
steps, without the VAE. What needs more than 18 GiB does not fit. Rows: `bench/results/
sdxl_steps.jsonl`. Takes an hour, and 25 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers.contestants import SDXL_CONTESTANTS, SDXL_STEPS
from peers.environments import make_environments
from peers.models import SDXL_MODELS, make_models
from peers.schedule import Row, not_done, race_in, rounds, run_visits
from peers.visits import SDXL, Visit

SCRATCH = Path(__file__).parents[1] / "scratch" / "peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=SCRATCH)
    parser.add_argument("--new", action="store_true", help="start a new run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every contestant")
    parser.add_argument("--minutes", type=float, default=90, help="start no visit after these")
    parser.add_argument("--prepare", action="store_true", help="create the models, then exit")
    options = parser.parse_args()
    work = options.work.resolve()
    make_environments(work)
    make_models(work / SDXL.models, SDXL_MODELS)
    if not options.prepare:
        race = race_in(work, SDXL, options.threads, new=options.new)
        run_visits(race, missing_visits, options.minutes)


def missing_visits(rows: Sequence[Row]) -> Iterator[Visit]:
    """The missing visits: rounds of all."""
    return not_done(rounds(SDXL_CONTESTANTS, SDXL_STEPS, rows), rows)


if __name__ == "__main__":
    main()
