"""SDXL's steps at 1024×1024 on this machine's CPU: sdrt, diffusers and OpenVINO GenAI.

As `bench/peers`, in the same environments: one process at a time, in turn, three rounds of two
steps, without the VAE. What needs more than 18 GiB does not fit. Rows: `bench/results/
sdxl_steps.jsonl`. Takes an hour, and 25 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from recording import RESULTS, alone_on_the_machine

from peers.contestants import NUM_ROUNDS, ORACLE, SDXL_CONTESTANTS, SDXL_STEPS
from peers.environments import make_environments
from peers.models import SDXL_MODELS, make_models
from peers.schedule import Row, line_of, race_in
from peers.visits import Race, Visit, visited

SCRATCH = Path(__file__).parents[1] / "scratch" / "peers"
ROWS = RESULTS / "sdxl_steps.jsonl"
MEMORY_LIMIT = 18.0  # GiB


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, default=SCRATCH)
    parser.add_argument("--new", action="store_true", help="start a new run")
    parser.add_argument("--threads", type=int, default=2, help="for every contestant")
    parser.add_argument("--prepare", action="store_true", help="create the models, then exit")
    options = parser.parse_args()
    work = options.work.resolve()
    make_environments(work)
    make_models(work / "models-sdxl", SDXL_MODELS)
    if not options.prepare:
        run_visits(sdxl_race(work, options.threads, new=options.new))


def sdxl_race(work: Path, num_threads: int, *, new: bool) -> Race:
    return race_in(
        work,
        num_threads,
        new=new,
        models="models-sdxl",
        size=1024,
        memory_limit=MEMORY_LIMIT,
    )


def run_visits(race: Race) -> None:
    """Makes the missing visits."""
    while visit := next(missing_visits(rows_of(race.name)), None):
        with alone_on_the_machine():
            row = visited(visit, race)
        with ROWS.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
        print(line_of(row), flush=True)


def missing_visits(rows: Sequence[Row]) -> Iterator[Visit]:
    """Rounds of all, the oracle first; a contestant that failed is not asked again."""
    failed = {row["contestant"] for row in rows if "error" in row}
    done = {(row["contestant"], row["question"]["name"], row["round"]) for row in rows}
    order = sorted(SDXL_CONTESTANTS, key=lambda each: each.name != ORACLE)
    for number in range(1, NUM_ROUNDS + 1):
        for contestant in order:
            visit = Visit(contestant, SDXL_STEPS, number)
            if contestant.name not in failed and visit.key not in done:
                yield visit


def rows_of(run: str) -> list[Row]:
    lines = ROWS.read_text(encoding="utf-8").splitlines() if ROWS.exists() else []
    return [row for row in map(json.loads, lines) if row["run"] == run]


if __name__ == "__main__":
    main()
