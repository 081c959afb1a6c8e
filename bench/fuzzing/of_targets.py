"""Targets that are lost while they run, and requests that do not fit into memory."""

from __future__ import annotations

import itertools
import os
import resource
from collections.abc import Iterator
from functools import partial
from random import Random
from typing import Any

from soak.operations import hash_of_result
from soak.pipelines import close_pipeline, opened

from fuzzing.bundles import PROMPT, Place
from fuzzing.of_stopping import targets
from fuzzing.outcomes import Case, Kind, call, child, judged
from sdrt import Bundle, Pipeline

_GB = 2**30


def lost_targets(place: Place) -> Iterator[Case]:
    """A target that fails in the middle of a request: the next one gives the same image."""
    bundle = Bundle.open(place.toy())
    options = {"seed": 7, "num_inference_steps": 6, "width": 64, "height": 64}
    with Pipeline.open(bundle.root, "cpu") as pipe:
        right = {number: _drawn(pipe, number, options) for number in (1, 3)}
    for case in range(place.times(120)):
        number = place.random.choice((1, 3))
        pipe = opened(bundle, "failing", Random(place.random.random()))
        ran = call(partial(_drawn, pipe, number, options))
        success: Kind = "identical" if ran.value == right[number] else "silent"
        yield judged(f"case {case}: {number} images, {pipe.refusals}", ran, success=success)
        close_pipeline(pipe)


def _drawn(pipe: Pipeline, number: int, options: dict[str, Any]) -> str:
    return hash_of_result(pipe(PROMPT, num_images_per_prompt=number, **options))


def memory(place: Place) -> Iterator[Case]:
    """Large sizes and many images under limits of memory: an image, or one line soon; what fits
    may take long, and so has a deadline."""
    output = place.work / "m.png"
    cases = [
        *itertools.product((1024, 2048, 4096, 8192), (1,), (None, 2, 8)),
        *itertools.product((64, 512), (1024,), (None, 2)),
    ]
    chosen = place.random.sample(cases, min(len(cases), place.times(6)))
    for (side, number, gigabytes), target in itertools.product(chosen, (*targets(), "auto")):
        size = ("--width", side, "--height", side, "--num-images", number)
        limits = ("--steps", 1, "--deadline", 5, "--target", target)
        words = ("run", place.demo(), PROMPT, *size, *limits, "-q", "-o", output)
        limit = None if gigabytes is None else partial(_limit, gigabytes * _GB)
        ran = child(words, place.work, 40, preexec_fn=limit)
        yield judged(f"{number} × {side}², {gigabytes or 'no'} GB, {target}", ran)


def _limit(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (size, size))
    os.nice(5)
