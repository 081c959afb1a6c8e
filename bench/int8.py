"""A denoiser in int8 against float32: how far its images are, its size, and the time of a step.

    python bench/int8.py [--schedulers euler …] [--guidance 2 7.5] [--images 32]
    python bench/int8.py --step-of BUNDLE [--targets openvino openvino:bf16 openvino:int8 …]

The first form builds int8 into a copy of the demo model, calibrated on prompts of its grammar, and
compares images of other prompts with those of the target cpu; a row for each target, sampler and
guidance.
The second times one step of a bundle's denoiser in int8 and in other precisions: all targets run in
turn, and each round gives a ratio to the first of them.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from itertools import product
from pathlib import Path

from forecast_images import Setting, nearness, run, scenes_of
from recording import Measurement, alone_on_the_machine, record
from timed_runs import seconds

import sdrt
from sdrt.bundle.demo import DEMO_FOLDER
from sdrt.bundle.folder import Bundle
from sdrt.bundle.manifest import FileRecord
from sdrt.targets.engines import open_engine
from sdrt.targets.int8 import int8_graph_of, int8_targets
from sdrt.verification.seeded_inputs import seeded_inputs
from sdrt_engines.packages import installed_versions
from sdrt_export.building.builder import BuildOptions
from sdrt_export.building.builders import builder_of
from sdrt_export.demo.grammar import caption_from_scene

STEPS = ("openvino", "openvino:bf16", "openvino:int8", "cpu", "cpu:int8")
NUM_PROMPTS = 4  # to calibrate on
SCHEDULERS = ("dpmpp_2m", "euler", "ddim")
NUM_STEPS = 20


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--schedulers", nargs="+", default=SCHEDULERS)
    parser.add_argument("--guidance", type=float, nargs="+", default=[2, 7.5])
    parser.add_argument("--images", type=int, default=32)
    parser.add_argument("--step-of", type=Path, metavar="BUNDLE")
    parser.add_argument("--targets", nargs="+", default=STEPS)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    if options.step_of is not None:
        with alone_on_the_machine():
            record("int8", steps(Bundle.open(options.step_of), options.targets, options.rounds))
        return
    with tempfile.TemporaryDirectory() as folder:
        bundle = built_demo(Path(folder) / "demo")
        for each in product(options.schedulers, [NUM_STEPS], options.guidance):
            record("int8", fidelity(bundle, Setting(*each), options.images))


def built_demo(root: Path) -> Bundle:
    """A copy of the demo model with its denoiser in int8."""
    shutil.copytree(DEMO_FOLDER, root)
    prompts = tuple(caption_from_scene(scene) for scene in scenes_of(NUM_PROMPTS, seed=1))
    target = int8_targets()[0]
    builder_of(target).build(Bundle.open(root), target, BuildOptions(prompts=prompts), print)
    return Bundle.open(root)


def fidelity(bundle: Bundle, setting: Setting, num_images: int) -> list[Measurement]:
    """The PSNR of images against those of the target cpu, in dB."""
    scenes = scenes_of(num_images, seed=3)
    with sdrt.Pipeline.open(bundle.root, "cpu") as pipe:
        exact = run(pipe, scenes, setting.options)
    rows = []
    for target in map(str, int8_targets()):
        with sdrt.Pipeline.open(bundle.root, target) as pipe:
            got = run(pipe, scenes, setting.options)
        name, notes = f"{target}, {setting}", {"target": target, **setting.notes, **sizes(bundle)}
        rows.append(nearness(name, scenes, exact.pixels, got.pixels, versions(), notes))
    return rows


def sizes(bundle: Bundle) -> dict[str, object]:
    """The int8 denoiser: its layers, and its size against the exported one's."""
    graph, denoiser = int8_graph_of(bundle), bundle.find("denoiser")
    assert graph is not None
    assert denoiser is not None
    return {
        "layers in int8": graph.num_layers - len(graph.stayed_float),
        "layers": graph.num_layers,
        "work in float": round(graph.float_share, 3),
        "MB": round(megabytes(graph.files), 1),
        "MB as exported": round(megabytes(denoiser.files), 1),
    }


def megabytes(files: Sequence[FileRecord]) -> float:
    return sum(file.size for file in files) / 1e6


def steps(bundle: Bundle, targets: Sequence[str], rounds: int) -> list[Measurement]:
    """The seconds of one step of the denoiser, with guidance, in the model's own size."""
    denoiser = bundle.name_of("denoiser")
    feeds = seeded_inputs(bundle, denoiser)
    with ExitStack() as stack:
        engines = {
            target: stack.enter_context(open_engine(bundle, denoiser, target)) for target in targets
        }
        for engine in engines.values():
            engine.run(feeds)
        times = [
            {target: seconds(engine, feeds) for target, engine in engines.items()}
            for _ in range(rounds)
        ]
    return [
        Measurement(
            f"step on {target}",
            "s",
            tuple(each[target] for each in times),
            versions(),
            {
                "target": target,
                f"relative to {targets[0]}": round(
                    statistics.median(each[target] / each[targets[0]] for each in times), 3
                ),
                **sizes(bundle),
            },
        )
        for target in targets
    ]


def versions() -> dict[str, str]:
    return installed_versions("sdrt", "onnxruntime", "openvino", "numpy")


if __name__ == "__main__":
    main()
