"""Two speeds compared: the time of each and how alike their images are, with the same prompts and
seeds; and fewer steps, which save time as well.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from statistics import median
from typing import Any

import numpy as np

from sdrt.benchmarking.figures import Figure
from sdrt.benchmarking.likeness import Pixels, psnr_of_images, ssim_of_images
from sdrt.benchmarking.statistics import summary_of
from sdrt.benchmarking.workload import Report, Workload, require_one_target, unreported
from sdrt.errors import SdrtError
from sdrt.parameters import Speed
from sdrt.pipeline import Pipeline
from sdrt.request import Request


@dataclass(frozen=True)
class Image:
    """One image, and what it took."""

    pixels: Pixels
    seconds: float
    num_calls: int  # that the model answered
    target: str  # as in `Result.engine`


@dataclass(frozen=True)
class Comparison:
    """A speed, the one that it is compared with, and the number of images of each."""

    speed: Speed
    reference: Speed
    runs: int = 8

    def figures(self, workload: Workload, report: Report = unreported) -> Iterator[Figure]:
        """Measures both in turns, then the rival. SdrtError if both are the same here."""
        mine, theirs = workload.at(self.speed), workload.at(self.reference)
        with ExitStack() as stack:
            pipeline = stack.enter_context(mine.open())
            reference = stack.enter_context(theirs.open())
            if reference.target == pipeline.target:
                reference = pipeline  # its networks are open once
            require_difference(pipeline, mine.request, reference, theirs.request)
            for number in range(workload.warmup):
                report(f"warm-up {number + 1} of {workload.warmup}")
                image_of(pipeline, mine.request_of(number))
                image_of(reference, theirs.request_of(number))
            images, exact = self._in_turns((pipeline, mine), (reference, theirs), report)
            yield from self._figures(images, exact)
            if self.reference == "exact":
                yield _rival(reference, theirs, exact, images, report)

    def _in_turns(
        self, one: tuple[Pipeline, Workload], other: tuple[Pipeline, Workload], report: Report
    ) -> tuple[list[Image], list[Image]]:
        """The images of both, which take turns in being the first."""
        images: tuple[list[Image], list[Image]] = ([], [])
        for number in range(self.runs):
            report(f"pair {number + 1} of {self.runs}")
            sides = list(zip(images, (one, other), strict=True))
            for found, (pipeline, workload) in sides[:: -1 if number % 2 else 1]:
                found.append(image_of(pipeline, workload.request_of(number)))
                require_one_target(found[0].target, found[-1].target)
        return images

    def _figures(self, images: Sequence[Image], exact: Sequence[Image]) -> Iterator[Figure]:
        target, pairs = images[0].target, list(zip(images, exact, strict=True))
        for name, found in ((self.speed, images), (self.reference, exact)):
            seconds = tuple(image.seconds for image in found)
            calls = median(image.num_calls for image in found)
            yield Figure(f"image, {name}", "s", seconds, found[0].target, notes={"calls": calls})
        ratios = tuple(one.seconds / other.seconds for one, other in pairs)
        yield Figure("relative time", "×", ratios, target, notes={"of": self.reference})
        yield Figure("PSNR", "dB", _psnr(images, exact), target)
        ssim = tuple(ssim_of_images(other.pixels, one.pixels) for one, other in pairs)
        yield Figure("SSIM", "", ssim, target)


def require_difference(
    pipeline: Pipeline, request: Request, reference: Pipeline, other: Request
) -> None:
    """SdrtError if the requests of two speeds mean the same work on the same target."""
    job = pipeline.generation(request).job
    forecasts = job.request.forecast, reference.resolve(other).forecast
    if forecasts[0] == forecasts[1] and pipeline.target == reference.target:
        reasons = "".join(f" ({note.message})" for note in job.notes if note.field == "speed")
        raise SdrtError(
            f"--speed {request.speed} does the same here as {other.speed}, on {pipeline.target}: "
            f"there is nothing to compare{reasons}"
        )


def image_of(pipeline: Pipeline, request: Request) -> Image:
    """Generates an image."""
    stream = pipeline.stream(request)
    for _ in stream:
        pass
    result = stream.result
    pixels = np.asarray(result.images[0])
    return Image(pixels, result.timings.total, result.num_calls[0], result.engine)


def _psnr(images: Sequence[Image], exact: Sequence[Image]) -> tuple[float, ...]:
    pairs = zip(images, exact, strict=True)
    return tuple(psnr_of_images(other.pixels, one.pixels) for one, other in pairs)


def _rival(
    pipeline: Pipeline,
    workload: Workload,
    exact: Sequence[Image],
    images: Sequence[Image],
    report: Report,
) -> Figure:
    """The PSNR of the fewest steps whose images are as near to the exact ones, by its median and by
    what 90 % of the images exceed."""
    wanted = summary_of(_psnr(images, exact), higher_is_better=True)
    low, high, found = 2, workload.request.num_inference_steps or 2, list(exact)
    while low < high:
        steps = (low + high) // 2
        report(f"{steps} steps")
        request = replace(workload.request, num_inference_steps=steps)
        fewer = replace(workload, request=request)
        tried = [image_of(pipeline, fewer.request_of(i)) for i in range(len(exact))]
        got = summary_of(_psnr(tried, exact), higher_is_better=True)
        if got.p50 >= wanted.p50 and got.p90 >= wanted.p90:
            high, found = steps, tried
        else:
            low = steps + 1
    return Figure(
        "PSNR of fewer steps",
        "dB",
        _psnr(found, exact),
        found[0].target,
        notes=_notes_on_rival(high, found, images),
    )


def _notes_on_rival(steps: int, found: Sequence[Image], images: Sequence[Image]) -> dict[str, Any]:
    calls = median(image.num_calls for image in images)
    return {
        "steps": steps,
        "calls": found[0].num_calls,
        "seconds": round(median(image.seconds for image in found), 6),
        "relative calls": round(calls / found[0].num_calls, 3),
    }
