"""Calls of a denoiser, recorded while the bundle itself generates images."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import ceil
from typing import TypeVar

from sdrt.ask import Answer, Ask
from sdrt.bundle.folder import Bundle
from sdrt.errors import RequestError
from sdrt.generation import run_alone
from sdrt.pipeline import Pipeline
from sdrt.request import Request
from sdrt.targets.parts import answer_in_parts
from sdrt_engines import Array
from sdrt_export.errors import BuildError
from sdrt_export.options import Report

T = TypeVar("T")

MAX_PROMPTS = 4
MAX_STEPS = 8  # of each image: they pass through the same noise levels as more steps
MAX_CALLS = 16  # a call of Stable Diffusion 1.5 takes 0.8 MB


@dataclass(frozen=True, eq=False)
class Call:
    """One run of a denoiser: its inputs, and its outputs in float32, by name. With guidance it has
    the rows of both branches."""

    feeds: dict[str, Array]
    outputs: dict[str, Array]


def recorded_calls(
    bundle: Bundle, denoiser: str, prompts: Sequence[str], report: Report
) -> list[Call]:
    """Calls of the denoiser on the target `cpu`, spread over the steps, others of each prompt.

    The images have the bundle's own size, sampler and guidance. At most `MAX_PROMPTS` prompts are
    taken, spread over the list, and `MAX_CALLS` calls in all. BuildError if the bundle needs more
    than a prompt.
    """
    chosen = spread(prompts, MAX_PROMPTS)
    num_steps = min(MAX_STEPS, bundle.defaults["num_inference_steps"])
    calls: list[Call] = []
    with Pipeline.open(bundle.root, "cpu") as pipeline:
        for number, prompt in enumerate(chosen):
            report(f"{denoiser}: recording calls, prompt {number + 1} of {len(chosen)}")
            request = Request(prompt, seed=number, num_inference_steps=num_steps)
            try:
                recorded = list(_calls_of(pipeline, request, denoiser))
            except RequestError as error:
                raise BuildError(
                    f"{bundle.root}: int8 is calibrated on text to image: {error}"
                ) from error
            distance = ceil(len(recorded) * len(chosen) / MAX_CALLS)
            calls += recorded[number % distance :: distance]
    return calls


def _calls_of(pipeline: Pipeline, request: Request, denoiser: str) -> Iterator[Call]:
    recorded: list[Call] = []

    def run(ask: Ask) -> Answer:
        answer = answer_in_parts(ask, pipeline.engines)
        last = ask.chain[-1]
        if last.component == denoiser:
            feeds = {**last.constant.feeds, **last.changing}
            recorded.append(Call(feeds, dict(answer.outputs)))
        return answer

    for _ in run_alone(pipeline.generation(request).events(), run):
        yield from recorded
        recorded.clear()
    yield from recorded


def spread(items: Sequence[T], count: int) -> list[T]:
    """`count` of the items, or all, at equal distances; the first and the last are among them."""
    if len(items) <= count:
        return list(items)
    if count == 1:
        return [items[0]]
    return [items[round(i * (len(items) - 1) / (count - 1))] for i in range(count)]
