"""`sdrt run demo` without a target, from process start, with OpenVINO installed and without it.

The two take turns. "Without it" hides OpenVINO from Python; it stays installed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recording import Measurement, alone_on_the_machine, record

from sdrt_engines.packages import installed_versions

HIDE = "import sys; sys.modules['openvino'] = None\n"
RUN = "import sys; from sdrt.command_line.main import main; sys.exit(main(sys.argv[1:]))"
OPTIONS = ["run", "demo", "a large red circle on a white background", "--seed", "7", "-q"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with alone_on_the_machine(), tempfile.TemporaryDirectory() as folder:
        output = Path(folder, "out.png")
        programs = {"with openvino installed": RUN, "without it": HIDE + RUN}
        pairs = [
            {name: run(program, output) for name, program in programs.items()}
            for _ in range(1 + rounds)
        ][1:]
    record(
        "auto_target",
        [
            measured(f"{what}, {name}", unit, tuple(pair[name][place] for pair in pairs))
            for place, (what, unit) in enumerate((("time", "s"), ("peak memory", "MB")))
            for name in programs
        ],
    )


def measured(name: str, unit: str, values: tuple[float, ...]) -> Measurement:
    return Measurement(name, unit, values, installed_versions("sdrt", "onnxruntime", "openvino"))


def run(program: str, output: Path) -> tuple[float, float]:
    """The seconds of a process, and its peak memory in MB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", program, *OPTIONS, "-o", str(output)])
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    if status:
        sys.exit(f"sdrt run failed: exit status {status}")
    return seconds, usage.ru_maxrss / 1024


if __name__ == "__main__":
    main()
