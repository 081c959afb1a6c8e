"""sdrt and its peers on this machine's CPU: Stable Diffusion 1.5 at full size, 512×512, Euler.

The same weights, tokens, steps and threads for all; one process at a time, in turn. Each visit
becomes a row of `bench/results/peers.jsonl` when it ends; a second call continues where the first
one stopped. Environments and models are created first, once: 45 GB of disk.
"""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from peers.command import parser, run_course
from peers.models import MODELS
from peers.schedule import missing_visits
from peers.visits import SD15


def main() -> None:
    options = parser(__doc__)
    options.add_argument("--only", action="append", help="contestants; default: all")
    given = options.parse_args()
    run_course(given, SD15, MODELS, partial(missing_visits, only=given.only))


if __name__ == "__main__":
    main()
