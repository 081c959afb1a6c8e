"""The gain of `sdrt build --target cpu`: Stable Diffusion 1.5's full-size UNet opened from the
bundle, and prepared for this processor.

One process each, in turns: from the bundle's folder to an engine, files verified; the first step,
further steps, and the memory that other processes cannot share. Weights are random. Takes minutes,
9 GB of memory and 12 GB of disk.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

from build_full_size import synthetic_bundle
from recording import Measurement, record

import sdrt
from sdrt.targets.runnable import runnable
from sdrt_engines import Target
from sdrt_engines.packages import installed_versions

NETWORK = "unet"
OPEN = {
    "as it is": "open_reference(bundle, 'unet')",
    "prepared": "open_engine(bundle, 'unet', 'cpu')",
}

PROGRAM = """
import json, sys, time
from pathlib import Path
from sdrt.bundle.folder import Bundle
from sdrt.targets.engines import open_engine, open_reference
from sdrt.verification.seeded_inputs import seeded_inputs
bundle = Bundle.open(sys.argv[1])
feeds = seeded_inputs(bundle, "unet")
start = time.perf_counter()
engine = {opened}
seconds = [time.perf_counter() - start]
for _ in range(3):
    start = time.perf_counter()
    engine.run(feeds)
    seconds.append(time.perf_counter() - start)
status = dict(line.split(":") for line in Path("/proc/self/status").read_text().splitlines())
print(json.dumps({{"seconds": seconds, "gib": int(status["RssAnon"].split()[0]) / 2**20}}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--bundle", type=Path, help="default: a temporary one")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        path = options.bundle or synthetic_bundle(Path(work))
        build = ["build", path, "--target", "cpu", "--component", NETWORK]
        subprocess.run([sys.executable, "-m", "sdrt", *map(str, build)], check=True)
        figures: dict[str, list] = {name: [] for name in OPEN}
        for _ in range(options.rounds):
            for name, opened in OPEN.items():
                figures[name].append(figures_of(path, opened))
        record("cpu_opening", measurements_of(sdrt.Bundle.open(path), figures))


def figures_of(bundle: Path, opened: str) -> dict[str, object]:
    command = [sys.executable, "-c", PROGRAM.format(opened=opened), str(bundle)]
    return json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout)


def measurements_of(bundle: sdrt.Bundle, figures: dict[str, list]) -> list[Measurement]:
    component, versions = bundle.component(NETWORK), installed_versions("sdrt", "onnxruntime")
    prepared = runnable(bundle.root, component, Target("cpu"))
    sizes = {"as it is": component.files, "prepared": prepared.files}
    return [
        Measurement(
            f"{name}, {what}",
            unit,
            tuple(value(each) for each in found),
            versions,
            {"MB on the disk": round(sum(file.size for file in sizes[name]) / 1e6)},
        )
        for name, found in figures.items()
        for what, unit, value in (
            ("to open", "s", lambda each: each["seconds"][0]),
            ("first step", "s", lambda each: each["seconds"][1]),
            ("a step", "s", lambda each: min(each["seconds"][2:])),
            ("memory of its own", "GiB", lambda each: each["gib"]),
        )
    ]


if __name__ == "__main__":
    main()
