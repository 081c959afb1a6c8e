"""sdrt and its peers on this machine's CPU: Stable Diffusion 1.5 at full size, 512×512, Euler.

The same weights, tokens, steps and threads for all; one process at a time, in turn. Each visit
becomes a row of `bench/results/peers.jsonl` when it ends; a second call continues where the first
one stopped. Environments and models are created first, once: 45 GB of disk.
"""

from __future__ import annotations

import argparse
import os
import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers.environments import make_environments
from peers.models import make_models
from peers.schedule import missing_visits, race_in, run_visits
from peers.visits import SD15

SCRATCH = Path(__file__).parents[1] / "scratch" / "peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=SCRATCH)
    parser.add_argument("--new", action="store_true", help="start a new run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every contestant")
    parser.add_argument("--minutes", type=float, default=90, help="start no visit after these")
    parser.add_argument("--only", action="append", help="contestants; default: all")
    parser.add_argument(
        "--prepare", action="store_true", help="create environments and models, then exit"
    )
    options = parser.parse_args()
    work = options.work.resolve()
    make_environments(work)
    make_models(work / SD15.models)
    if not options.prepare:
        race = race_in(work, SD15, options.threads, new=options.new)
        run_visits(race, partial(missing_visits, only=options.only), options.minutes)


if __name__ == "__main__":
    main()
