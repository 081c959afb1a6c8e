"""The measurements of `sdrt tune` on this machine: a row per target and number of threads.

The verdict is written to a temporary cache folder, so that the one which `auto` follows stays.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from typing import Any

from recording import Measurement, alone_on_the_machine, record

from sdrt_engines.packages import installed_versions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bundle", default="demo")
    parser.add_argument("--runs", default="3", help="as in sdrt tune")
    options = parser.parse_args()
    with alone_on_the_machine(), tempfile.TemporaryDirectory() as cache:
        start = time.perf_counter()
        verdict = verdict_of(options.bundle, options.runs, cache)
        seconds = time.perf_counter() - start
    whole = Measurement(
        f"sdrt tune, {options.runs} runs", "s", (seconds,), installed_versions("sdrt")
    )
    record("tuning", [*measurements_of(verdict), whole])


def verdict_of(bundle: str, runs: str, cache: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "sdrt", "tune", bundle, "--runs", runs, "--json"]
    environment = os.environ | {"SDRT_CACHE": cache}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=environment)
    return json.loads(done.stdout)


def measurements_of(verdict: dict[str, Any]) -> list[Measurement]:
    """The time of a step at the first shape, by target and number of threads. The verdict omits
    null values."""
    shape = "{width}×{height}".format(**verdict["shapes"][0])
    return [
        Measurement(
            f"{found['target']}, {trial.get('num_threads', 'default')} threads, one step",
            "s",
            (trial["steps"][0]["seconds"],),
            verdict["conditions"]["packages"],
            {
                "shape": shape,
                "half of the range": trial["steps"][0].get("spread", 0.0),
                "PSNR": found.get("psnr"),
            },
        )
        for found in verdict["targets"]
        for trial in found["trials"]
        if "error" not in trial
    ]


if __name__ == "__main__":
    main()
