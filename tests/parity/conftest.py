"""diffusers' pipelines and ours over the same checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from sdrt import Pipeline
from support.clip_skip import repair_clip_skip

if TYPE_CHECKING:  # imported late below: this file is read where torch is missing too
    from parity.pipeline_harness import Ours, Theirs


@pytest.fixture(scope="session")
def theirs(tiny_checkpoint: Callable[[str], Path]) -> Theirs:
    import diffusers

    from parity.pipeline_harness import THEIR_SCHEDULERS, pipeline_with

    text_to_image = diffusers.StableDiffusionPipeline

    @cache
    def loaded(recipe: str) -> Any:
        return repair_clip_skip(text_to_image.from_pretrained(tiny_checkpoint(recipe)))

    def opened(
        recipe: str, scheduler: str | None = None, kind: Any = text_to_image, **parts: Any
    ) -> Any:
        """A pipeline of that kind, with a fresh scheduler: the checkpoint's own, or another."""
        pipe = loaded(recipe)
        schedule = type(pipe.scheduler)
        options: dict[str, Any] = {}
        if scheduler:
            name, options = THEIR_SCHEDULERS[scheduler]
            schedule = getattr(diffusers, name)
        config = schedule.load_config(tiny_checkpoint(recipe), subfolder="scheduler")
        return pipeline_with(pipe, kind, scheduler=schedule.from_config(config, **options), **parts)

    return opened


@pytest.fixture(scope="session")
def ours(tiny_bundle: Callable[[str], Path]) -> Ours:
    return cache(lambda recipe: Pipeline.open(tiny_bundle(recipe), "cpu", num_threads=1))


@pytest.fixture
def nearest_rounding() -> Iterator[None]:
    """diffusers' schedules to the last digit, on every CPU."""
    from support.nearest_rounding import nearest_rounding as rounded

    with rounded():
        yield
