"""The presets of `--speed` on this machine's CPU, next to OpenVINO GenAI.

20 steps of Stable Diffusion 1.5 at 512×512, Euler, guidance 2 and 7.5. As `bench/peers`, with its
environments and models. sdrt runs on the targets that `auto` takes at each speed if `sdrt tune`
finds OpenVINO fastest. Rows: `bench/results/savings.jsonl`. Takes half an hour.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from itertools import product
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers.command import parser, run_course
from peers.contestants import NUM_SAVING_ROUNDS, SAVING, SAVING_CONTESTANTS
from peers.models import MODELS
from peers.schedule import Row, not_done
from peers.visits import SAVINGS, Visit


def main() -> None:
    run_course(parser(__doc__).parse_args(), SAVINGS, MODELS, missing_visits)


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
