"""The presets of `--speed` on this machine's CPU, next to OpenVINO GenAI.

20 steps of Stable Diffusion 1.5 at 512×512, Euler, guidance 2 and 7.5. As `bench/peers`, with its
environments and models. sdrt runs on the targets that `auto` takes at each speed if `sdrt tune`
finds OpenVINO fastest. Rows: `bench/results/savings.jsonl`. Takes half an hour.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers.contestants import NUM_SAVING_ROUNDS, SAVING, SAVING_CONTESTANTS
from peers.environments import make_environments
from peers.models import make_models
from peers.schedule import Row, not_done, race_in, run_visits
from peers.visits import SAVINGS, Visit

SCRATCH = Path(__file__).parents[1] / "scratch" / "peers"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=SCRATCH)
    parser.add_argument("--new", action="store_true", help="start a new run")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="for every contestant")
    parser.add_argument("--minutes", type=float, default=90, help="start no visit after these")
    options = parser.parse_args()
    work = options.work.resolve()
    make_environments(work)
    make_models(work / SAVINGS.models)
    race = race_in(work, SAVINGS, options.threads, new=options.new)
    run_visits(race, missing_visits, options.minutes)


def missing_visits(rows: Sequence[Row]) -> Iterator[Visit]:
    """The missing visits: rounds of all, for each guidance in turn."""
    rounds = range(1, NUM_SAVING_ROUNDS + 1)
    visits = (
        Visit(contestant, question, number)
        for number, question, contestant in product(rounds, SAVING, SAVING_CONTESTANTS)
    )
    return not_done(visits, rows)


if __name__ == "__main__":
    main()
