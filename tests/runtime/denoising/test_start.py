"""The start of denoising, and the order in which its noise is drawn."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from sdrt.ask import Answer, Ask, Asks, answered
from sdrt.denoising.start import (
    FromImage,
    FromNoise,
    Inpaint,
    Start,
    StartKind,
    first_index,
    start_of,
)
from sdrt.denoising.vae import Autoencoder, Posterior
from sdrt.families.family import LatentSpace
from sdrt.samplers.config import SamplerConfig
from sdrt.samplers.schedule import Schedule
from sdrt_engines import Array

SHAPE = (2, 4, 3, 5)
MASK = np.zeros((1, 1, 3, 5), np.float32)
MASK[..., 1:3] = 1
PIXELS = np.full((1, 3, 3, 5), 0.75, np.float32)  # one for each latent


class Draws:
    """Noise that is recorded, so that a test can identify each draw."""

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


@dataclass(frozen=True)
class Vae(Autoencoder):
    """An autoencoder with fixed encodings: `posterior(0)` for the image, `posterior(1)` for a
    masked one."""

    encoder: str = "vae_encoder"
    decoder: str = "vae_decoder"
    latents: LatentSpace = field(default_factory=lambda: LatentSpace(4, 1, 1.0))

    def encode(self, pixels: Array) -> Asks[Posterior]:
        found = posterior(int(not np.array_equal(pixels, PIXELS)))
        return found if self.variational else replace(found, std=None)
        yield


def inpaint(
    index: int, mask: Array = MASK, *, from_noise: bool = False, sees_mask: bool = False
) -> Inpaint:
    return Inpaint(PIXELS, mask, index, from_noise, sees_mask)


def no_run(ask: Ask) -> Answer:
    raise AssertionError("this VAE asks nothing")


def start(kind: StartKind, schedule: Schedule, draw: Draws, *, variational: bool = True) -> Start:
    return answered(start_of(kind, schedule, draw, Vae(variational=variational)), no_run)


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_text_to_image_begins_at_noise(scheduler: str, draw: Draws) -> None:
    schedule = schedule_of(scheduler)
    begun = start(FromNoise(), schedule, draw)
    np.testing.assert_array_equal(begun.latents, draw.drawn[0] * schedule.init_noise_sigma)
    assert (begun.index, begun.blend, begun.extra) == (0, None, None)


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_image_to_image_begins_at_the_image_with_noise(scheduler: str, draw: Draws) -> None:
    schedule, image = schedule_of(scheduler), posterior(0)
    begun = start(FromImage(PIXELS, 4), schedule, draw)
    sampled, noise = draw.drawn
    np.testing.assert_array_equal(
        begun.latents, schedule.add_noise(image.sample(lambda: sampled), noise, 4)
    )
    assert begun.latents.dtype == np.float32
    assert begun.index == 4


def test_blending_keeps_the_image_at_the_next_step_s_noise(draw: Draws) -> None:
    schedule, image = schedule_of("ddim"), posterior(0)
    begun = start(inpaint(4), schedule, draw)
    sampled, noise, _ = draw.drawn
    latents = image.sample(lambda: sampled)
    np.testing.assert_array_equal(begun.latents, schedule.add_noise(latents, noise, 4))
    painted = np.full(SHAPE, 7, np.float32)
    assert begun.blend is not None
    for index, kept in ((5, schedule.add_noise(latents, noise, 5)), (None, latents)):
        blended = begun.blend(painted, index)
        assert blended.dtype == np.float32
        np.testing.assert_array_equal(blended, np.where(MASK == 1, painted, kept))
    assert (painted == 7).all()  # the sampler's own array


@pytest.mark.parametrize("scheduler", ["ddim", "euler"])
def test_blending_at_strength_one_begins_at_noise(scheduler: str, draw: Draws) -> None:
    schedule = schedule_of(scheduler)
    begun = start(inpaint(0, from_noise=True), schedule, draw)
    np.testing.assert_array_equal(begun.latents, draw.drawn[1] * schedule.init_noise_sigma)


@pytest.mark.parametrize("white", [0, 1])
def test_black_and_white_masks(white: int, draw: Draws) -> None:
    begun = start(inpaint(0, np.full_like(MASK, white), from_noise=True), schedule_of("ddim"), draw)
    assert begun.blend is not None
    painted = np.full(SHAPE, 7, np.float32)
    expected = painted if white else posterior(0).sample(lambda: draw.drawn[0])
    np.testing.assert_array_equal(begun.blend(painted, None), expected)


def test_an_inpainting_denoiser_sees_mask_and_masked_image(draw: Draws) -> None:
    schedule = schedule_of("ddim")
    begun = start(inpaint(4, sees_mask=True), schedule, draw)
    sampled, noise, sampled_masked = draw.drawn
    expected = schedule.add_noise(posterior(0).sample(lambda: sampled), noise, 4)
    np.testing.assert_array_equal(begun.latents, expected)
    assert begun.extra is not None
    assert begun.extra.shape == (2, 5, 3, 5)
    np.testing.assert_array_equal(begun.extra[:, :1], MASK.repeat(2, axis=0))
    np.testing.assert_array_equal(begun.extra[:, 1:], posterior(1).sample(lambda: sampled_masked))
    assert begun.blend is None


def test_an_inpainting_denoiser_at_strength_one_needs_no_image(draw: Draws) -> None:
    schedule = schedule_of("euler")
    begun = start(inpaint(0, from_noise=True, sees_mask=True), schedule, draw)
    noise, sampled_masked = draw.drawn
    np.testing.assert_array_equal(begun.latents, noise * schedule.init_noise_sigma)
    assert begun.extra is not None
    np.testing.assert_array_equal(begun.extra[:, 1:], posterior(1).sample(lambda: sampled_masked))


def test_certain_latents_draw_no_noise(draw: Draws) -> None:
    schedule, image = schedule_of("ddim"), posterior(0).mean
    begun = start(FromImage(PIXELS, 4), schedule, draw, variational=False)
    (noise,) = draw.drawn
    np.testing.assert_array_equal(begun.latents, schedule.add_noise(image, noise, 4))

    draw.drawn.clear()
    begun = start(inpaint(4), schedule, draw, variational=False)
    (noise,) = draw.drawn
    np.testing.assert_array_equal(begun.latents, schedule.add_noise(image, noise, 4))
    assert begun.blend is not None
    blended = begun.blend(np.zeros(SHAPE, np.float32), None)
    np.testing.assert_array_equal(blended, np.where(MASK == 1, 0, image.repeat(2, axis=0)))

    draw.drawn.clear()
    begun = start(inpaint(4, sees_mask=True), schedule, draw, variational=False)
    assert len(draw.drawn) == 1
    assert begun.extra is not None
    masked = posterior(1).mean.repeat(2, axis=0)
    np.testing.assert_array_equal(begun.extra, np.concatenate([MASK.repeat(2, 0), masked], 1))
