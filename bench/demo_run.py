"""From process start to image: `sdrt run demo` and diffusers, same weights, same image.

Both are separate processes, started in turn; the first round warms the disk cache and is not
counted. The two images are compared, so that both do the same work.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image
from recording import Measurement, record

from sdrt_engines.packages import installed_versions

CHECKPOINT = Path(__file__).parents[1] / "export" / "sdrt_export" / "demo_checkpoint"
PROMPT = "a large red circle on a white background"
STEPS, SEED, GUIDANCE = 20, 7, 3.0
TARGET_RATIO = 0.2
TOLERANCE = 2  # of 255

DIFFUSERS = """
import sys, torch
from diffusers import StableDiffusionPipeline
checkpoint, prompt, steps, seed, guidance, output, *threads = sys.argv[1:]
if threads:
    torch.set_num_threads(int(threads[0]))
pipe = StableDiffusionPipeline.from_pretrained(checkpoint).to(torch.float32)
pipe.set_progress_bar_config(disable=True)
image = pipe(prompt, num_inference_steps=int(steps), guidance_scale=float(guidance),
             generator=torch.Generator().manual_seed(int(seed))).images[0]
image.save(output)
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--num-threads", type=int, help="default: each library's choice")
    options = parser.parse_args()
    num_threads = options.num_threads

    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder, "sdrt.png"), Path(folder, "diffusers.png")
        times = [
            (
                seconds(sdrt_command(ours, num_threads)),
                seconds(diffusers_command(theirs, num_threads)),
            )
            for _ in range(1 + options.rounds)
        ][1:]
        difference = largest_difference(ours, theirs)
    if difference > TOLERANCE:
        sys.exit(f"the images differ by {difference}/255, expected at most {TOLERANCE}/255")

    sdrt_times, diffusers_times = zip(*times, strict=True)
    ratios = tuple(a / b for a, b in times)
    same = {
        "steps": STEPS,
        "threads": num_threads or "default",
        "largest difference": f"{difference}/255",
    }
    record(
        "demo_run",
        [
            Measurement(
                "sdrt run demo", "s", sdrt_times, installed_versions("sdrt", "onnxruntime"), same
            ),
            Measurement(
                "diffusers", "s", diffusers_times, installed_versions("diffusers", "torch"), same
            ),
            Measurement(
                "sdrt / diffusers", "×", ratios, notes={"target": f"at most {TARGET_RATIO}"}
            ),
        ],
    )


def sdrt_command(output: Path, num_threads: int | None) -> list[str]:
    options = ["--steps", STEPS, "--seed", SEED, "--guidance-scale", GUIDANCE, "-o", output, "-q"]
    options += ["--target", "cpu"]  # the only target of the lean package
    if num_threads is not None:
        options += ["--num-threads", num_threads]
    return [sys.executable, "-m", "sdrt", "run", "demo", PROMPT, *map(str, options)]


def diffusers_command(output: Path, num_threads: int | None) -> list[str]:
    values = [CHECKPOINT, PROMPT, STEPS, SEED, GUIDANCE, output]
    if num_threads is not None:
        values.append(num_threads)
    return [sys.executable, "-c", DIFFUSERS, *map(str, values)]


def seconds(command: list[str]) -> float:
    """The wall time of a process."""
    start = time.perf_counter()
    subprocess.run(command, check=True, capture_output=True)
    return time.perf_counter() - start


def largest_difference(a: Path, b: Path) -> int:
    """The largest difference between two images' pixels, out of 255."""
    pixels = (np.asarray(Image.open(path).convert("RGB"), dtype=np.int16) for path in (a, b))
    first, second = pixels
    return int(np.abs(first - second).max())


if __name__ == "__main__":
    main()
