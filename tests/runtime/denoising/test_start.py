"""Where denoising begins, and in which order its noise is drawn."""

from __future__ import annotations

import numpy as np
import pytest

from sdrt.denoising.start import (
    first_index,
    start_beside_mask,
    start_from_noise,
    start_from_picture,
    start_with_blending,
)
from sdrt.denoising.vae import Posterior
from sdrt.samplers import SamplerConfig, Schedule

SHAPE = (2, 4, 3, 5)
MASK = np.zeros((1, 1, 3, 5), np.float32)
MASK[..., 1:3] = 1


class Draws:
    """Noise that is kept, so that a test can say which draw went where."""

    def __init__(self) -> None:
        self.drawn: list[np.ndarray] = []

    def __call__(self) -> np.ndarray:
        random = np.random.default_rng(len(self.drawn))
        self.drawn.append(random.standard_normal(SHAPE, np.float32))
        return self.drawn[-1]


def schedule_of(scheduler: str, num_steps: int = 10) -> Schedule:
    config = SamplerConfig.from_diffusers({"_class_name": "DDIMScheduler"}).renamed(scheduler)
    return config.schedule(num_steps)


def posterior(seed: int) -> Posterior:
    random = np.random.default_rng(100 + seed)
    mean = random.standard_normal((1, *SHAPE[1:]), np.float32)
    return Posterior(mean, np.full_like(mean, 0.5))


@pytest.fixture
def draw() -> Draws:
    return Draws()


@pytest.mark.parametrize(
    ("scheduler", "num_steps", "strength", "index"),
    [
        ("ddim", 10, 1, 0),
        ("ddim", 10, 0.75, 3),
        ("ddim", 10, 0.2, 8),
        ("ddim", 50, 0.02, 49),
        ("ddim", 7, 0.61, 3),
        ("heun", 10, 0.75, 6),  # two calls a step
        ("heun", 10, 1, 0),
    ],
)
def test_strength_is_the_share_of_the_steps(
    scheduler: str, num_steps: int, strength: float, index: int
) -> None:
    assert first_index(schedule_of(scheduler, num_steps), num_steps, strength) == index


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_text_to_image_begins_at_noise(scheduler: str, draw: Draws) -> None:
    schedule = schedule_of(scheduler)
    start = start_from_noise(schedule, draw)
    np.testing.assert_array_equal(start.latents, draw.drawn[0] * schedule.init_noise_sigma)
    assert (start.index, start.blend, start.beside) == (0, None, None)


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_image_to_image_begins_at_the_picture_with_noise(scheduler: str, draw: Draws) -> None:
    schedule, picture = schedule_of(scheduler), posterior(0)
    start = start_from_picture(schedule, draw, picture, 4)
    sampled, noise = draw.drawn
    np.testing.assert_array_equal(
        start.latents, schedule.add_noise(picture.sample(sampled), noise, 4)
    )
    assert start.latents.dtype == np.float32


def test_blending_keeps_the_picture_at_the_next_step_s_noise(draw: Draws) -> None:
    schedule, picture = schedule_of("ddim"), posterior(0)
    start = start_with_blending(schedule, draw, picture, MASK, 4, from_noise=False)
    sampled, noise, _ = draw.drawn
    latents = picture.sample(sampled)
    np.testing.assert_array_equal(start.latents, schedule.add_noise(latents, noise, 4))
    painted = np.full(SHAPE, 7, np.float32)
    assert start.blend is not None
    for index, kept in ((4, schedule.add_noise(latents, noise, 5)), (9, latents)):
        blended = start.blend(painted, index)
        assert blended.dtype == np.float32
        np.testing.assert_array_equal(blended, np.where(MASK == 1, painted, kept))
    assert (painted == 7).all()  # the sampler's own array


@pytest.mark.parametrize(("from_noise", "scheduler"), [(True, "ddim"), (True, "euler")])
def test_blending_at_strength_one_begins_at_noise(
    from_noise: bool, scheduler: str, draw: Draws
) -> None:
    schedule = schedule_of(scheduler)
    start = start_with_blending(schedule, draw, posterior(0), MASK, 0, from_noise=from_noise)
    np.testing.assert_array_equal(start.latents, draw.drawn[1] * schedule.init_noise_sigma)


@pytest.mark.parametrize("white", [0, 1])
def test_black_and_white_masks(white: int, draw: Draws) -> None:
    picture, mask = posterior(0), np.full_like(MASK, white)
    start = start_with_blending(schedule_of("ddim"), draw, picture, mask, 0, from_noise=True)
    assert start.blend is not None
    painted = np.full(SHAPE, 7, np.float32)
    expected = painted if white else picture.sample(draw.drawn[0])
    np.testing.assert_array_equal(start.blend(painted, 9), expected)


def test_an_inpainting_unet_sees_mask_and_masked_picture(draw: Draws) -> None:
    schedule, picture, masked = schedule_of("ddim"), posterior(0), posterior(1)
    start = start_beside_mask(schedule, draw, picture, masked, MASK, 4)
    sampled, noise, sampled_masked = draw.drawn
    np.testing.assert_array_equal(
        start.latents, schedule.add_noise(picture.sample(sampled), noise, 4)
    )
    assert start.beside is not None
    assert start.beside.shape == (2, 5, 3, 5)
    np.testing.assert_array_equal(start.beside[:, :1], MASK.repeat(2, axis=0))
    np.testing.assert_array_equal(start.beside[:, 1:], masked.sample(sampled_masked))


def test_an_inpainting_unet_at_strength_one_needs_no_picture(draw: Draws) -> None:
    schedule, masked = schedule_of("euler"), posterior(1)
    start = start_beside_mask(schedule, draw, None, masked, MASK, 0)
    noise, sampled_masked = draw.drawn
    np.testing.assert_array_equal(start.latents, noise * schedule.init_noise_sigma)
    assert start.beside is not None
    np.testing.assert_array_equal(start.beside[:, 1:], masked.sample(sampled_masked))
