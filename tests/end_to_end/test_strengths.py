"""Every sampler with an image, at strengths that leave few steps or nearly all."""

from __future__ import annotations

import pytest

from sdrt import Pipeline
from sdrt.scheduler_names import SHORT_NAMES, variants_of
from support.images import sample_image
from support.toy_bundle import write_toy_bundle

IMAGE = sample_image(16, 16)
# PNDM begins with Runge-Kutta steps here, which need the start of its schedule.
STEMS = [stem for stem in SHORT_NAMES if stem != "pndm" and not stem.startswith("flow")]


@pytest.fixture(scope="module")
def pipe(tmp_path_factory: pytest.TempPathFactory) -> Pipeline:
    root = write_toy_bundle(tmp_path_factory.mktemp("bundle") / "bundle")
    return Pipeline.open(root, "cpu", num_threads=1)


@pytest.mark.parametrize("scheduler", [name for stem in STEMS for name in variants_of(stem)])
@pytest.mark.parametrize(("num_steps", "strength", "taken"), [(20, 0.1, 2), (5, 0.99, 4)])
def test_the_share_of_the_steps_is_taken(
    scheduler: str, num_steps: int, strength: float, taken: int, pipe: Pipeline
) -> None:
    stream = pipe.stream(
        "a",
        image=IMAGE,
        scheduler=scheduler,
        num_inference_steps=num_steps,
        strength=strength,
        seed=1,
    )
    timesteps = {step.timestep for step in stream}
    assert taken <= len(timesteps) <= 2 * taken  # two for each step of a second-order sampler
