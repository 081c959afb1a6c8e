"""The presets on the targets that they may take: images of the demo model against exact ones.

    python bench/speed_modes.py [--schedulers euler …] [--guidance 2 7.5] [--images 32]

A row for each sampler, guidance, preset and target, if the preset leaves out calls there. The exact
images are of the target `cpu`, in float32, so that a row holds the error of both: of the forecasts
and of the precision.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Sequence
from itertools import product, starmap
from pathlib import Path

import numpy as np
from forecast_images import Run, Setting, nearness, run, scenes_of
from int8 import built_demo, versions
from recording import Measurement, record

import sdrt
from sdrt.denoising.speed_presets import forecast_of
from sdrt.parameters import Speed
from sdrt_export.demo.grammar import Scene

SCHEDULERS = ("dpmpp_2m", "euler", "ddim", "unipc", "euler_a")
NUM_STEPS = 20
MODES: tuple[tuple[Speed, str], ...] = (
    ("balanced", "openvino:bf16"),
    ("fast", "cpu:int8"),
    ("fast", "openvino:int8"),
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedulers", nargs="+", default=SCHEDULERS)
    parser.add_argument("--guidance", type=float, nargs="+", default=[2, 7.5])
    parser.add_argument("--images", type=int, default=32)
    options = parser.parse_args()
    scenes = scenes_of(options.images, seed=4)  # others than those of the searches
    settings = list(starmap(Setting, product(options.schedulers, [NUM_STEPS], options.guidance)))
    with tempfile.TemporaryDirectory() as folder:
        root = built_demo(Path(folder) / "demo").root
        with sdrt.Pipeline.open(root, "cpu") as pipe:
            exact = {setting: run(pipe, scenes, setting.options) for setting in settings}
        for speed, target in MODES:
            with sdrt.Pipeline.open(root, target) as pipe:
                for setting in settings:
                    record("speed_modes", rows(pipe, speed, setting, scenes, exact[setting]))


def rows(
    pipe: sdrt.Pipeline, speed: Speed, setting: Setting, scenes: Sequence[Scene], exact: Run
) -> list[Measurement]:
    """The row of a preset, if it means something with this setting."""
    num_calls, target = exact.num_calls[0], str(pipe.target)
    budget = forecast_of(speed, setting.scheduler, num_calls, setting.guidance_scale)
    if budget is None:
        return []
    got = run(pipe, scenes, setting.options | {"speed": speed})
    notes = {
        "speed": speed,
        "target": target,
        **setting.notes,
        "forecast": budget,
        "calls": round(float(np.mean(got.num_calls)), 2),
        "all calls": num_calls,
    }
    name = f"{speed} on {target}, {setting}"
    return [nearness(name, scenes, exact.pixels, got.pixels, versions(), notes)]


if __name__ == "__main__":
    main()
