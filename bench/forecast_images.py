"""Images of the demo model with and without forecasts, for the benches of forecasting."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from recording import Measurement

import sdrt
from sdrt.benchmarking.likeness import psnr_of_images
from sdrt.denoising.forecasting import ForecastPlan
from sdrt.generation import Generation, run_alone
from sdrt.job import job_from_request
from sdrt.samplers.protocol import Call, Noise, Sampler
from sdrt_engines import Array
from sdrt_export.demo.grammar import ALL_SCENES, Scene, caption_from_scene
from sdrt_export.demo.judge import sight

Pixels = npt.NDArray[np.uint8]  # (B, H, W, 3)
BATCH = 8
TAIL = 5  # percentile of the images' PSNR


@dataclass(frozen=True)
class Setting:
    """The sampler, its steps and the guidance of a comparison."""

    scheduler: str
    num_steps: int
    guidance_scale: float

    def __str__(self) -> str:
        return f"{self.scheduler}, {self.num_steps} steps, guidance {self.guidance_scale:g}"

    @property
    def options(self) -> dict[str, Any]:
        return {
            "scheduler": self.scheduler,
            "num_inference_steps": self.num_steps,
            "guidance_scale": self.guidance_scale,
        }

    @property
    def notes(self) -> dict[str, Any]:
        """The same as it stands in rows."""
        return {
            "scheduler": self.scheduler,
            "steps": self.num_steps,
            "guidance": self.guidance_scale,
        }


@dataclass(frozen=True)
class Run:
    """The images of all scenes, their latents, and how many calls of each the model answered."""

    pixels: Pixels
    latents: Array
    num_calls: tuple[int, ...]


def scenes_of(count: int, seed: int) -> list[Scene]:
    """Scenes from the whole grammar."""
    chosen = np.random.default_rng(seed).choice(len(ALL_SCENES), count, replace=False)
    return [ALL_SCENES[i] for i in chosen]


def run(
    pipe: sdrt.Pipeline,
    scenes: Sequence[Scene],
    options: dict[str, Any],
    change: Callable[[Any], Any] = lambda steps: steps,
) -> Run:
    """The images of the scenes, each with a seed of its own; `change` is applied to the steps of
    each generation."""
    results = []
    for first in range(0, len(scenes), BATCH):
        prompts = [caption_from_scene(scene) for scene in scenes[first : first + BATCH]]
        request = sdrt.Request(prompts, seed=5000 + first, **options)
        results.append(_result_of(_generation(request, pipe, change), pipe))
    return Run(
        np.stack([np.asarray(image) for result in results for image in result.images]),
        np.concatenate([result.latents for result in results]),
        tuple(count for result in results for count in result.num_calls),
    )


def _generation(
    request: sdrt.Request, pipe: sdrt.Pipeline, change: Callable[[Any], Any]
) -> Generation:
    job = job_from_request(request, pipe.bundle, pipe._signatures)
    job = replace(job, base=replace(job.base, steps=change(job.base.steps)))
    return Generation(job, pipe._signatures, pipe._tokenizer, pipe._answer, pipe._texts)


def _result_of(generation: Generation, pipe: sdrt.Pipeline) -> sdrt.Result:
    steps = run_alone(generation.events(), pipe._answer)
    while True:
        try:
            next(steps)
        except StopIteration as finished:
            result: sdrt.Result = finished.value
            return result


def with_plan(plan: ForecastPlan) -> Callable[[Any], Any]:
    return lambda steps: replace(steps, forecast=plan)


def recording(kept: list[Array]) -> Callable[[Any], Any]:
    """Keeps the x0 (B, C, h, w) of each call, batch after batch."""

    def change(steps: Any) -> Any:
        def sampler(x: Array, own: Sequence[Any], noise: Noise) -> Sampler:
            return _recorded(steps.schedule.sampler(x, own, noise), iter(steps.calls), kept)

        return replace(steps, schedule=replace(steps.schedule, sampler=sampler))

    return change


def _recorded(sampler: Sampler, levels: Iterator[Any], kept: list[Array]) -> Sampler:
    event = next(sampler)
    while True:
        reply = yield event
        if isinstance(event, Call):
            level = next(levels)
            kept.append(level.x0(event.sample / level.c_in, reply))
        try:
            event = sampler.send(reply)
        except StopIteration as finished:
            latents: Array = finished.value
            return latents


def psnr(expected: Pixels, got: Pixels) -> Array:
    """The PSNR of each image in dB, against 255."""
    return np.array([psnr_of_images(*pair) for pair in zip(expected, got, strict=True)])


def nearness(
    name: str,
    scenes: Sequence[Scene],
    expected: Pixels,
    got: Pixels,
    versions: Mapping[str, str],
    notes: Mapping[str, Any],
) -> Measurement:
    """The row of images next to the expected ones: PSNR, and what the judge sees in both."""
    values = psnr(expected, got)
    return Measurement(
        name,
        "dB",
        tuple(round(float(value), 2) for value in values),
        versions,
        {
            **notes,
            "5th percentile": round(float(np.percentile(values, TAIL)), 2),
            "images judged worse": num_lost(scenes, expected, got),
            "images judged otherwise": num_changed(scenes, expected, got),
        },
    )


def num_lost(scenes: Sequence[Scene], expected: Pixels, got: Pixels) -> int:
    """The number of images in which the judge no longer sees the scene of the prompt."""
    return sum(
        all(sight(one).agreement(scene).values())
        and not all(sight(other).agreement(scene).values())
        for scene, one, other in zip(scenes, expected, got, strict=True)
    )


def num_changed(scenes: Sequence[Scene], expected: Pixels, got: Pixels) -> int:
    """The number of images in which the judge sees other attributes."""
    pairs = zip(expected, got, strict=True)
    return sum(sight(one) != sight(other) for one, other in pairs)
