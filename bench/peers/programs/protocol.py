"""The protocol of every peer's program: open, generate two images, print the times.

Runs in the peers' own environments, so it needs only numpy. Times are seconds of `time.time`, which
all processes of a machine share.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Job:
    """The images to generate, and their inputs: the same for every peer."""

    model: str  # the folder in the peer's own format
    first_steps: int  # of the image that opens and compiles
    steps: int  # of the image that is measured
    kind: str  # "text", "image" (image to image) or "control" (with a ControlNet)
    num_images: int
    num_threads: int
    decode: bool  # if not, the last step's latents (B, 4, size/8, size/8) take the images' place
    size: int  # pixels, height and width
    prompt: str
    guidance_scale: float
    strength: float  # of image to image
    noise: str  # (8, 4, size/8, size/8) float32 normals in an .npy file: torch's with seed 0
    image: str  # a PNG: the input image, and the control image
    controlnet: str  # a folder, for peers that load it separately
    images: str  # path of the measured images, (B, H, W, 3) uint8 in an .npy file
    options: Mapping[str, Any]  # the contestant's own


@dataclass
class Generation:
    """One call of a pipeline, filled in while it runs."""

    steps: int
    decode: bool = True
    begin: float = field(default_factory=time.time)
    step_ends: list[float] = field(default_factory=list)
    stages: dict[str, float] = field(default_factory=dict)  # seconds, by sdrt's names
    num_calls: int | None = None  # of the model, if it did not answer all steps

    def end_step(self, *_: object, **__: object) -> None:
        self.step_ends.append(time.time())

    @property
    def over(self) -> bool:
        """True after the last step of an image that is not decoded."""
        return not self.decode and len(self.step_ends) == self.steps

    def timed(self, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with its seconds added to a stage."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.time()
            try:
                return function(*arguments, **keywords)
            finally:
                self.stages[stage] = self.stages.get(stage, 0.0) + time.time() - start

        return call


Generate = Callable[[Generation], np.ndarray]  # images (B, H, W, 3) uint8, or latents


def race(open_pipeline: Callable[[Job], Generate], packages: tuple[str, ...]) -> None:
    """Runs the job given as JSON on the command line; the last line of stdout is the report."""
    job = Job(**json.loads(sys.argv[1]))
    generate = open_pipeline(job)
    ready = time.time()
    report = {"ready": ready, "versions": versions_of(packages)}
    for name, steps in (("first", job.first_steps), ("warm", job.steps)):
        if not steps:
            continue
        generation = Generation(steps, job.decode)
        images = generate(generation)
        end = time.time()
        report[name] = {
            "begin": generation.begin,
            "step_ends": generation.step_ends,
            "end": end,
            "stages": generation.stages,
            "num_calls": generation.num_calls,
        }
    report.setdefault("first", report["warm"])
    Path(job.images).parent.mkdir(parents=True, exist_ok=True)
    np.save(job.images, images)
    print(json.dumps(report), flush=True)


def versions_of(packages: tuple[str, ...]) -> dict[str, str]:
    found = {each.metadata["Name"].lower(): each.version for each in distributions()}
    return {name: found[name] for name in packages if name in found}


def bytes_of(images: Any) -> np.ndarray:
    """Pillow's images as one array (B, H, W, 3)."""
    return np.stack([np.asarray(image.convert("RGB")) for image in images])
