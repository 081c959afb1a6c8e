"""diffusers' pipelines and ours over the same checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import diffusers
import pytest
from diffusers import StableDiffusionPipeline

from parity.pipeline_harness import THEIR_SCHEDULERS, Ours, Theirs, pipeline_with
from sdrt import Pipeline
from support.nearest_rounding import NearestRounding


@pytest.fixture(scope="session")
def theirs(tiny_checkpoint: Callable[[str], Path]) -> Theirs:
    loaded = cache(lambda recipe: StableDiffusionPipeline.from_pretrained(tiny_checkpoint(recipe)))

    def opened(
        recipe: str, scheduler: str | None = None, kind: Any = StableDiffusionPipeline, **parts: Any
    ) -> Any:
        """A pipeline of that kind, with a fresh scheduler: the checkpoint's own, or another."""
        pipe = loaded(recipe)
        schedule, options = type(pipe.scheduler), {}
        if scheduler:
            name, options = THEIR_SCHEDULERS[scheduler]
            schedule = getattr(diffusers, name)
        config = schedule.load_config(tiny_checkpoint(recipe), subfolder="scheduler")
        return pipeline_with(pipe, kind, scheduler=schedule.from_config(config, **options), **parts)

    return opened


@pytest.fixture(scope="session")
def ours(tiny_bundle: Callable[[str], Path]) -> Ours:
    return cache(lambda recipe: Pipeline.open(tiny_bundle(recipe), target="cpu"))


@pytest.fixture
def nearest_rounding() -> Iterator[None]:
    """diffusers' schedules to the last digit, on every CPU."""
    with NearestRounding():
        yield
