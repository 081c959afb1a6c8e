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
    from parity.control_harness import Nets
    from parity.pipeline_harness import Ours, Theirs


@pytest.fixture(scope="session")
def theirs(tiny_checkpoint: Callable[[str], Path]) -> Theirs:
    import diffusers

    from parity.pipeline_harness import THEIR_SCHEDULERS, pipeline_with

    @cache
    def loaded(recipe: str) -> Any:
        pipe = diffusers.DiffusionPipeline.from_pretrained(tiny_checkpoint(recipe))
        return repair_clip_skip(pipe)

    def opened(recipe: str, scheduler: str | None = None, kind: Any = None, **parts: Any) -> Any:
        """A pipeline of that kind, by default the checkpoint's own, with a fresh scheduler: the
        checkpoint's own, or another."""
        pipe = loaded(recipe)
        schedule = type(pipe.scheduler)
        options: dict[str, Any] = {}
        if scheduler:
            name, options = THEIR_SCHEDULERS[scheduler]
            schedule = getattr(diffusers, name)
        config = schedule.load_config(tiny_checkpoint(recipe), subfolder="scheduler")
        if scheduler and "use_karras_sigmas" in config:  # our names say which sigmas are meant
            config = config | {"use_karras_sigmas": False}
        return pipeline_with(pipe, kind, scheduler=schedule.from_config(config, **options), **parts)

    return opened


@pytest.fixture(scope="session")
def ours(tiny_bundle: Callable[[str], Path]) -> Ours:
    return cache(lambda recipe: Pipeline.open(tiny_bundle(recipe), "cpu", num_threads=1))


@pytest.fixture(scope="session")
def nets(tiny_controlnets: Callable[[str], dict[str, Path]]) -> Nets:
    from diffusers import ControlNetModel, MultiControlNetModel

    @cache
    def opened(recipe: str, names: tuple[str, ...]) -> Any:
        folders = tiny_controlnets(recipe)
        loaded = [ControlNetModel.from_pretrained(folders[name]) for name in names]
        return loaded[0] if len(loaded) == 1 else MultiControlNetModel(loaded)

    return opened


@pytest.fixture
def nearest_rounding() -> Iterator[None]:
    """diffusers' schedules to the last digit, on every CPU."""
    from support.nearest_rounding import nearest_rounding as rounded

    with rounded():
        yield
