"""Whole pipelines beside diffusers' StableDiffusionPipeline, on the same checkpoint."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import Any, TypeAlias

import diffusers
import numpy as np
import pytest
import torch
from diffusers import StableDiffusionPipeline
from PIL.Image import Image

from checkpoints import TEXT_TO_IMAGE
from sdrt import Pipeline
from sdrt.tokenizer import TruncatedPromptWarning
from sdrt_engines import FunctionEngine, resolve_target

Ours: TypeAlias = Callable[[str], Pipeline]
Theirs: TypeAlias = Callable[..., StableDiffusionPipeline]  # recipe, scheduler's name

pytestmark = [
    pytest.mark.parity,
    # diffusers' own: what it says of an old schedule; it hands torch tensors to numpy
    pytest.mark.filterwarnings("ignore:The configuration file of this scheduler:FutureWarning"),
    pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword"),
    pytest.mark.filterwarnings("ignore:__array_wrap__ must accept context and return_scalar"),
]

# Our short names, and how a user of diffusers writes the same.
THEIR_SCHEDULERS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddim": ("DDIMScheduler", {}),
    "ddpm": ("DDPMScheduler", {}),
    "pndm": ("PNDMScheduler", {}),
    "lms": ("LMSDiscreteScheduler", {}),
    "euler": ("EulerDiscreteScheduler", {}),
    "euler_karras": ("EulerDiscreteScheduler", {"use_karras_sigmas": True}),
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
    """One request, in the words that both sides share."""

    recipe: str
    scheduler: str | None  # None: the checkpoint's own
    options: dict[str, Any]

    def __str__(self) -> str:
        texts = (f"{name}={value}"[:40] for name, value in self.options.items())
        return " ".join([self.recipe, self.scheduler or "own", *texts])

    @property
    def request(self) -> dict[str, Any]:
        custom = {"timesteps", "sigmas"} & self.options.keys()
        return {"prompt": CIRCLE} | ({} if custom else {"num_inference_steps": 5}) | self.options

    @property
    def num_images(self) -> int:
        prompt = self.request["prompt"]
        return (1 if isinstance(prompt, str) else len(prompt)) * self.options.get(
            "num_images_per_prompt", 1
        )


def case(recipe: str, scheduler: str | None = None, **options: Any) -> Case:
    return Case(recipe, scheduler, options)


@dataclass(frozen=True)
class Drawn:
    """What a pipeline made: the latents after each step, and the pictures."""

    timesteps: Sequence[float]
    latents: Sequence[np.ndarray]  # (B, C, h, w) each
    images: np.ndarray  # (B, H, W, 3) uint8


@pytest.fixture(scope="module")
def theirs(tiny_checkpoint: Callable[[str], Path]) -> Theirs:
    loaded = cache(lambda recipe: StableDiffusionPipeline.from_pretrained(tiny_checkpoint(recipe)))

    def opened(recipe: str, scheduler: str | None = None) -> StableDiffusionPipeline:
        """With a fresh scheduler: the checkpoint's own, or another one for its model."""
        pipe = loaded(recipe)
        kind, options = type(pipe.scheduler), {}
        if scheduler:
            name, options = THEIR_SCHEDULERS[scheduler]
            kind = getattr(diffusers, name)
        config = kind.load_config(tiny_checkpoint(recipe), subfolder="scheduler")
        return with_scheduler(pipe, kind.from_config(config, **options))

    return opened


def with_scheduler(pipe: StableDiffusionPipeline, scheduler: Any) -> StableDiffusionPipeline:
    """The same networks in a new pipeline, which corrects old schedules when it is made."""
    parts = pipe.components | {"scheduler": scheduler}
    pipe = StableDiffusionPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(scope="module")
def ours(tiny_bundle: Callable[[str], Path]) -> Ours:
    return cache(lambda recipe: Pipeline.open(tiny_bundle(recipe), target="cpu"))


def generators(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(SEED + i) for i in range(count)]


def drawn_by_diffusers(pipe: StableDiffusionPipeline, case: Case) -> Drawn:
    timesteps: list[float] = []
    latents: list[np.ndarray] = []

    def note(pipe: object, index: int, t: torch.Tensor, tensors: dict[str, Any]) -> dict[str, Any]:
        timesteps.append(float(t))
        latents.append(tensors["latents"].numpy())
        return tensors

    images = pipe(
        **case.request, generator=generators(case.num_images), callback_on_step_end=note
    ).images
    return Drawn(timesteps, latents, pixels(images))


def drawn_by_us(pipe: Pipeline, case: Case) -> Drawn:
    stream = pipe.stream(**case.request, scheduler=case.scheduler, seed=SEED)
    steps = list(stream)
    np.testing.assert_array_equal(stream.result.latents, steps[-1].latents)
    timesteps, latents = zip(*((step.timestep, step.latents) for step in steps), strict=True)
    return Drawn(timesteps, latents, pixels(stream.result.images))


def pixels(images: Iterable[Image]) -> np.ndarray:
    return np.stack([np.asarray(image) for image in images])


def assert_same(ours: Drawn, theirs: Drawn) -> None:
    np.testing.assert_allclose(ours.timesteps, theirs.timesteps, rtol=0, atol=1e-4)
    assert_same_latents(ours.latents[-1], theirs.latents[-1])
    assert_same_pictures(ours.images, theirs.images)


def assert_same_latents(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert np.isfinite(theirs).all()
    assert abs(ours - theirs).max() <= 1e-3 * max(1.0, abs(theirs).max())


def assert_same_pictures(ours: np.ndarray, theirs: np.ndarray) -> None:
    assert ours.shape == theirs.shape
    assert theirs.std() > 5, "a flat picture proves nothing"
    assert abs(ours.astype(int) - theirs).max() <= 2


CASES = [
    *(case(recipe, negative_prompt=BLURRY) for recipe in TEXT_TO_IMAGE),
    *(case("classic", name) for name in THEIR_SCHEDULERS),
    case("classic", "ddim", eta=0.6, num_images_per_prompt=2),
    case("classic", "tcd", eta=0.3),
    # batches
    case("classic", num_images_per_prompt=2, negative_prompt=BLURRY),
    case("deep", "euler_a", prompt=[CIRCLE, STAR], num_images_per_prompt=2),
    case("deep", prompt=[CIRCLE, STAR, CATS], negative_prompt=[BLURRY, "", UGLY]),
    # guidance
    *(case("classic", guidance_scale=scale, negative_prompt=UGLY) for scale in (0, 1, 1.5)),
    *(case("v_prediction", guidance_rescale=rescale) for rescale in (0.3, 1.0)),
    *(case("lcm", guidance_scale=scale, prompt=[CIRCLE, STAR]) for scale in (0.0, 1.0, 8.0)),
    # text
    *(case("deep", clip_skip=skip, negative_prompt=BLURRY) for skip in (1, 2, 4)),
    case("linear_projection", prompt=["", STAR], guidance_scale=1),  # nearly all padding: "!"
    # sizes
    case("classic", width=64, height=24),
    *(case("deep", width=width, height=height) for width, height in [(72, 104), (64, 8), (40, 72)]),
    # steps
    case("classic", num_inference_steps=1),
    case("classic", num_inference_steps=25),
    case("classic", "euler", timesteps=[999, 600, 300, 20], num_inference_steps=4),
    case("classic", "euler", sigmas=[14.0, 5.0, 1.0, 0.2, 0.0], num_inference_steps=4),
    case("classic", "ddpm", timesteps=[900, 500, 100], num_inference_steps=3),
    case("lcm", timesteps=[999, 499, 259, 19], num_inference_steps=4),
]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_same_picture(case: Case, ours: Ours, theirs: Theirs) -> None:
    expected = drawn_by_diffusers(theirs(case.recipe, case.scheduler), case)
    assert_same(drawn_by_us(ours(case.recipe), case), expected)


def test_same_picture_of_a_prompt_that_is_too_long(ours: Ours, theirs: Theirs) -> None:
    long = case("deep", prompt=LONG, negative_prompt=LONG[::-1])
    with pytest.warns(TruncatedPromptWarning):
        drawn = drawn_by_us(ours("deep"), long)
    assert_same(drawn, drawn_by_diffusers(theirs("deep"), long))


@pytest.mark.parametrize(
    "case",
    [
        *(case(recipe) for recipe in TEXT_TO_IMAGE),
        case("classic", "euler", num_images_per_prompt=3),
        case("deep", width=72, height=104, num_images_per_prompt=2),  # 468 values: not sixteens
    ],
    ids=str,
)
def test_same_initial_latents(case: Case, ours: Ours, theirs: Theirs) -> None:
    """What the UNet is shown first, so scaled to a spread of about 1."""
    shown: list[np.ndarray] = []
    bundle = ours(case.recipe).bundle

    def unet(feeds: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        shown.append(feeds["sample"].copy())
        return {"out_sample": feeds["sample"]}

    engine = FunctionEngine(bundle.component("unet").signature, unet)
    request = case.request | {"scheduler": case.scheduler, "guidance_scale": 1, "seed": SEED}
    next(Pipeline(bundle, resolve_target("cpu"), {"unet": engine}).stream(**request))
    pipe = theirs(case.recipe, case.scheduler)
    np.testing.assert_allclose(shown[0], their_first_sample(pipe, case), atol=1e-6)


def their_first_sample(pipe: StableDiffusionPipeline, case: Case) -> np.ndarray:
    size = pipe.unet.config.sample_size * pipe.vae_scale_factor
    pipe.scheduler.set_timesteps(case.request["num_inference_steps"])
    latents = pipe.prepare_latents(
        case.num_images,
        pipe.unet.config.in_channels,
        case.request.get("height", size),
        case.request.get("width", size),
        torch.float32,
        torch.device("cpu"),
        generators(case.num_images),
    )
    return pipe.scheduler.scale_model_input(latents, pipe.scheduler.timesteps[0]).numpy()


@pytest.mark.parametrize(
    "old",
    [{"steps_offset": 0, "clip_sample": True}, {"beta_end": 0.012, "set_alpha_to_one": False}],
)
def test_old_schedules_are_corrected_alike(
    old: dict[str, Any], tiny_bundle: Callable[[str], Path], theirs: Theirs, tmp_path: Path
) -> None:
    folder = shutil.copytree(tiny_bundle("classic"), tmp_path / "folder")
    (folder / "sdrt.json").unlink()  # it knows the file that changes now
    config = {"_class_name": "DDIMScheduler", **old}
    (folder / "scheduler" / "scheduler_config.json").write_text(json.dumps(config))
    drawn = drawn_by_us(Pipeline.open(folder), case("classic"))
    pipe = with_scheduler(theirs("classic"), diffusers.DDIMScheduler(**old))
    assert_same(drawn, drawn_by_diffusers(pipe, case("classic")))


@pytest.mark.parametrize("scheduler", ["ddim", "euler", "heun", "lcm", "ddpm", "euler_a"])
def test_same_previews(scheduler: str, ours: Ours, theirs: Theirs) -> None:
    """At every step, the decoded ``pred_original_sample`` of diffusers' scheduler."""
    request = case("classic", scheduler, prompt=[CIRCLE, STAR]).request
    expected: list[np.ndarray] = []
    pipe = theirs("classic", scheduler)
    step = pipe.scheduler.step

    @wraps(step)  # the pipeline looks at its parameters
    def noting_step(*args: Any, return_dict: bool = True, **keywords: Any) -> tuple[Any]:
        output = step(*args, **keywords)
        expected.append(decoded(pipe, prediction_in(output)))
        return (output.prev_sample,)

    pipe.scheduler.step = noting_step
    pipe(**request, generator=generators(2))
    steps = list(ours("classic").stream(**request, scheduler=scheduler, seed=SEED))
    assert len(steps) == len(expected)
    for step, pictures in zip(steps, expected, strict=True):
        assert_same_pictures(pixels(step.preview()), pictures)


def prediction_in(output: Any) -> torch.Tensor:
    """LCM calls it ``denoised``."""
    return output.denoised if hasattr(output, "denoised") else output.pred_original_sample


def decoded(pipe: StableDiffusionPipeline, latents: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        pictures = pipe.vae.decode(latents / pipe.vae.config.scaling_factor).sample
    return pixels(pipe.image_processor.postprocess(pictures))


def test_a_cancelled_request_leaves_no_trace(ours: Ours, theirs: Theirs) -> None:
    for step in ours("deep").stream(CATS, seed=3, num_inference_steps=5):
        if step.index == 2:
            break
    again = case("deep")
    assert_same(drawn_by_us(ours("deep"), again), drawn_by_diffusers(theirs("deep"), again))
