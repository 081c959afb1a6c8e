"""One request in the terms that diffusers and sdrt share, run by both, and compared."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeAlias

import numpy as np
import pytest
import torch
from PIL.Image import Image

from sdrt import Pipeline

Ours: TypeAlias = Callable[[str], Pipeline]
Theirs: TypeAlias = Callable[..., Any]  # recipe, scheduler's name, kind, further parts

DIFFUSERS_WARNINGS = [  # about old schedules, and for passing torch tensors to numpy
    pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context and return_scalar"),
]
# Our short names, and the same in diffusers.
THEIR_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddim_trailing": ("DDIMScheduler", {"timestep_spacing": "trailing"}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
    "euler_trailing": ("EulerDiscreteScheduler", {"timestep_spacing": "trailing"}),
    "euler_a": ("EulerAncestralDiscreteScheduler", {}),
    "heun": ("HeunDiscreteScheduler", {}),
    "dpm2_a": ("KDPM2AncestralDiscreteScheduler", {}),
    "dpmpp_2m": ("DPMSolverMultistepScheduler", {}),
    "dpmpp_2m_karras": ("DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    "dpmpp_2m_sde": ("DPMSolverMultistepScheduler", {"algorithm_type": "sde-dpmsolver++"}),
    "dpmpp_2s": ("DPMSolverSinglestepScheduler", {}),
    "deis": ("DEISMultistepScheduler", {}),
    "unipc": ("UniPCMultistepScheduler", {}),
    "lcm": ("LCMScheduler", {}),
    "tcd": ("TCDScheduler", {}),
}
CIRCLE, STAR, CATS = "a red circle on a white background", "the artist's own star", "three cats"
BLURRY, UGLY = "blurry, low quality", "deformed, watermark"
LONG = ", ".join(["masterpiece, best quality, highly detailed"] * 20)
SEED = 11


@dataclass(frozen=True)
class Case:
    """One request, in the terms that both sides share."""

    recipe: str
    scheduler: str | None  # None: the checkpoint's own
    options: dict[str, Any]
    ours: dict[str, Any] = field(default_factory=dict)  # keywords of one side only
    theirs: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        options = self.options | self.ours
        texts = (f"{name}={value}"[:40] for name, value in options.items())
        return " ".join([self.recipe, self.scheduler or "own", *texts])

    @property
    def request(self) -> dict[str, Any]:
        custom = {"timesteps", "sigmas"} & self.options.keys()
        return {"prompt": CIRCLE} | ({} if custom else {"num_inference_steps": 5}) | self.options

    def together_with(self, ours: dict[str, Any], theirs: dict[str, Any]) -> Case:
        """The same request with keywords of each side."""
        return replace(self, ours=self.ours | ours, theirs=self.theirs | theirs)

    @property
    def num_images(self) -> int:
        prompt = self.request["prompt"]
        num_prompts = 1 if isinstance(prompt, str) else len(prompt)
        return num_prompts * int(self.options.get("num_images_per_prompt", 1))


def case(recipe: str, scheduler: str | None = None, **options: Any) -> Case:
    return Case(recipe, scheduler, options)


@dataclass(frozen=True)
class Drawn:
    """The results of a pipeline: the latents after each step, and the images."""

    timesteps: Sequence[float]
    latents: Sequence[np.ndarray]  # (B, C, h, w) each
    images: np.ndarray  # (B, H, W, 3) uint8


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(SEED + i) for i in range(count)]


# The guidance of model cards: it is the bundle's default, but not the one of diffusers' pipeline.
_CARDS = {"xl_turbo": 0.0, "sd2_turbo": 0.0, "xl_lcm": 8.0}


def generated_by_diffusers(pipe: Any, case: Case) -> Drawn:
    timesteps: list[float] = []
    latents: list[np.ndarray] = []

    def note(pipe: object, index: int, t: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        timesteps.append(float(t))
        latents.append(tensors["latents"].numpy())
        return tensors

    guidance = {"guidance_scale": _CARDS[case.recipe]} if case.recipe in _CARDS else {}
    images = pipe(
        **guidance | case.request | case.theirs,
        generator=generators(case.num_images),
        callback_on_step_end=note,
    ).images
    return Drawn(timesteps, latents, pixels(images))


def generated_by_us(pipe: Pipeline, case: Case) -> Drawn:
    stream = pipe.stream(**case.request, **case.ours, scheduler=case.scheduler, seed=SEED)
    steps = list(stream)
    np.testing.assert_array_equal(stream.result.latents, steps[-1].latents)
    timesteps, latents = zip(*((step.timestep, step.latents) for step in steps), strict=True)
    return Drawn(timesteps, latents, pixels(stream.result.images))


def pixels(images: Iterable[Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def assert_same(ours: Drawn, theirs: Drawn) -> None:
    np.testing.assert_allclose(ours.timesteps, theirs.timesteps, rtol=0, atol=1e-4)
    assert_same_latents(ours.latents[-1], theirs.latents[-1])
    assert_same_images(ours.images, theirs.images)


def assert_same_latents(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    assert abs(ours - theirs).max() <= 1e-3 * max(1.0, abs(theirs).max())


def assert_same_images(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert theirs.std() > 5, "a flat image proves nothing"
    assert abs(ours.astype(int) - theirs).max() <= 2


def pipeline_with(pipe: Any, kind: Any = None, **parts: Any) -> Any:
    """diffusers' pipeline of that kind (the same, if None) with the networks of another one and
    some parts exchanged. It corrects old schedules when it is created."""
    kind = kind or type(pipe)
    options = set(inspect.signature(kind).parameters) & pipe.config.keys() - pipe.components.keys()
    made = kind(**(pipe.components | {name: pipe.config[name] for name in options} | parts))
    made.set_progress_bar_config(disable=True)
    return made
