"""The time of `import sdrt`, compared with bare Python, numpy, and diffusers' pipeline.

Every round starts one new interpreter per statement, so that all see the same machine. A row
records the time over bare Python of the same round.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time

from recording import Measurement, record

from sdrt_engines.packages import installed_versions

STATEMENTS = {
    "import numpy": "import numpy",
    "import sdrt": "import sdrt",
    "import diffusers' pipeline": "from diffusers import StableDiffusionPipeline",
}
TARGET_MS = 150


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds

    for statement in STATEMENTS.values():
        milliseconds(statement)  # the first import writes bytecode and warms the disk cache
    times: dict[str, list[float]] = {name: [] for name in STATEMENTS}
    bare_times = []
    for _ in range(rounds):
        bare = milliseconds("pass")
        bare_times.append(bare)
        for name, statement in STATEMENTS.items():
            times[name].append(milliseconds(statement) - bare)

    versions = installed_versions("sdrt", "numpy", "torch", "diffusers", "transformers")
    notes = {"import sdrt": {"target": f"at most {TARGET_MS} ms over bare Python"}}
    record(
        "import_time",
        [Measurement("bare Python", "ms", tuple(bare_times))]
        + [
            Measurement(f"{name}, over bare", "ms", tuple(values), versions, notes.get(name, {}))
            for name, values in times.items()
        ],
    )


def milliseconds(statement: str) -> float:
    """The time of an interpreter that runs a statement, from start to end."""
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return (time.perf_counter() - start) * 1000


if __name__ == "__main__":
    main()
