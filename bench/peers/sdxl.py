"""SDXL's steps at 1024×1024 on this machine's CPU: sdrt, diffusers and OpenVINO GenAI.

As `bench/peers`, in the same environments: one process at a time, in turn, three rounds of two
steps, without the VAE. What needs more than 18 GiB does not fit. Rows: `bench/results/
sdxl_steps.jsonl`. Takes an hour, and 25 GB of disk.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers.command import parser, run_course
from peers.contestants import SDXL_CONTESTANTS, SDXL_STEPS
from peers.models import SDXL_MODELS
from peers.schedule import Row, not_done, rounds
from peers.visits import SDXL, Visit


def main() -> None:
    run_course(parser(__doc__).parse_args(), SDXL, SDXL_MODELS, missing_visits)


def missing_visits(rows: Sequence[Row]) -> Iterator[Visit]:
    """The missing visits: rounds of all."""
    return not_done(rounds(SDXL_CONTESTANTS, SDXL_STEPS, rows), rows)


if __name__ == "__main__":
    main()
