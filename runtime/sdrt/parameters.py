"""The parameters of a request: the table behind its checks, options, metadata and docs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from sdrt.kinds import (
    Anything,
    Between,
    Flag,
    Kind,
    Numbers,
    OneOf,
    Pair,
    Scheduler,
    Texts,
    Window,
)

MAX_SIDE = 8192  # pixels
MAX_STATED_SIDE = 65536  # pixels of an image that is only stated, as in original_size
MAX_SEED = 2**64 - 1
MAX_IMAGES = 1024  # in one request
MAX_CALLS = 2000  # of a sampler: two for each step
Resize: TypeAlias = Literal["crop", "pad", "stretch"]
VaeVariant: TypeAlias = Literal["tiny"]
PromptSyntax: TypeAlias = Literal["plain", "a1111"]
Speed: TypeAlias = Literal["exact", "balanced", "fast"]


@dataclass(frozen=True)
class Parameter:
    """One parameter, with diffusers' name if there is one: a field of `Request`."""

    name: str
    kind: Kind
    help: str
    default: str = ""  # in words; "" without one
    options: tuple[str, ...] = ()  # on the command line, in place of --name-with-dashes
    a1111: str | None = None  # its name in the text that A1111 writes into images
    needs: str | None = None  # the parameter that it depends on
    aliases: tuple[str, ...] = ()  # names in other programs
    recommended: bool = False  # a bundle may hold a default for it


_IMAGE = Anything("a PIL image, or the path of an image")
SIZE = Pair(("height", "width"), Between(1, MAX_STATED_SIDE, whole=True))
CORNER = Pair(("top", "left"), Between(0, MAX_STATED_SIDE, whole=True))
_SCORE = Between(0, 10)

PARAMETERS = (
    Parameter("prompt", Texts(), "what to generate"),
    Parameter(
        "prompt_2",
        Texts(),
        "what to generate, for the second text encoder",
        "the prompt",
        a1111="SDXL prompt 2",
    ),
    Parameter(
        "negative_prompt",
        Texts(),
        "what the images should not show",
        "none, which for SDXL differs from an empty one",
        options=("-n", "--negative-prompt"),
        aliases=("negative", "uncond"),
    ),
    Parameter(
        "negative_prompt_2",
        Texts(),
        "what the images should not show, for the second text encoder",
        "the negative prompt",
        a1111="SDXL negative prompt 2",
    ),
    Parameter(
        "prompt_syntax",
        OneOf(get_args(PromptSyntax)),
        "how prompts are read: as words only, cut to the text encoder's length, or in A1111's "
        "language, with weights, edits and any length",
        "plain",
        a1111="Prompt syntax",
        aliases=("syntax", "prompt_parser"),
    ),
    Parameter(
        "num_inference_steps",
        Between(1, 1000, whole=True),  # as many as the timesteps of training
        "number of denoising steps",
        "the bundle's",
        ("--steps", "--num-inference-steps"),
        "Steps",
        aliases=("steps", "num_steps", "sampling_steps"),
        recommended=True,
    ),
    Parameter(
        "scheduler",
        Scheduler(),
        "the sampler, by its short name or its name in diffusers, A1111 or ComfyUI",
        "the bundle's",
        a1111="Sampler",
        aliases=("sampler", "sampler_name", "sampling_method"),
    ),
    Parameter(
        "guidance_scale",
        Between(0, 1000),
        "how strongly the prompt guides the image; 1 or less turns guidance off",
        "the bundle's",
        a1111="CFG scale",
        aliases=("cfg", "cfg_scale", "guidance"),
        recommended=True,
    ),
    Parameter(
        "guidance_rescale",
        Between(0, 1),
        "reduces the over-exposure that high guidance causes",
        "0",
        aliases=("cfg_rescale",),
    ),
    Parameter(
        "speed",
        OneOf(get_args(Speed)),
        "how much work may be left out: nothing, or what was measured to change images little "
        "(balanced) or moderately (fast) with this sampler, these steps and this guidance",
        "the pipeline's, or else exact",
    ),
    Parameter(
        "guidance_interval",
        Window(),
        "the part of the steps that are guided, as shares of all; the others take half the time",
        "all steps",
        a1111="Guidance interval",
        aliases=("cfg_interval",),
    ),
    Parameter(
        "forecast",
        Between(1, MAX_CALLS, whole=True),
        "how many of the sampler's calls the model answers; the others are forecast from these",
        "all calls",
        a1111="Forecast",
    ),
    Parameter(
        "width",
        Between(8, MAX_SIDE, whole=True),
        "width in pixels",
        "the input image's, or else the bundle's",
        ("-W", "--width"),
        aliases=("w",),
        recommended=True,
    ),
    Parameter(
        "height",
        Between(8, MAX_SIDE, whole=True),
        "height in pixels",
        "the input image's, or else the bundle's",
        ("-H", "--height"),
        aliases=("h",),
        recommended=True,
    ),
    Parameter(
        "num_images_per_prompt",
        Between(1, MAX_IMAGES, whole=True),
        "how many images to generate; image i, counted from 0, has the seed plus i",
        "1",
        ("--num-images", "--num-images-per-prompt"),
        aliases=("n", "num_images", "batch_size"),
    ),
    Parameter(
        "seed",
        Between(0, MAX_SEED, whole=True),
        "seed of the noise; the same seed gives the same image",
        "random; the result and the PNG record it",
        ("-s", "--seed"),
        "Seed",
        aliases=("generator",),
    ),
    Parameter("eta", Between(0, 1), "how much fresh noise DDIM and TCD add", "0"),
    Parameter(
        "clip_skip",
        Between(0, 100, whole=True),
        "how many of the text encoder's last layers to skip",
        "0",
        a1111="Clip skip",
    ),
    Parameter(
        "timesteps",
        Numbers(Between(0, 1_000_000)),
        "exact timesteps to use instead of a number of steps",
        "the scheduler's",
    ),
    Parameter(
        "sigmas",
        Numbers(Between(0, 1e6)),
        "exact noise levels to use instead of a number of steps",
        "the scheduler's",
    ),
    Parameter("image", _IMAGE, "start from this image", aliases=("init_image",)),
    Parameter(
        "mask_image",
        _IMAGE,
        "generate only where this image is white",
        options=("--mask", "--mask-image"),
        needs="image",
        aliases=("mask",),
    ),
    Parameter(
        "strength",
        Between(0, 1),
        "how much to change the image: the share of the steps that run",
        "the model's, such as 0.8, or 1 with a mask",
        a1111="Denoising strength",
        needs="image",
        aliases=("denoising_strength", "denoise"),
    ),
    Parameter(
        "padding_mask_crop",
        Between(0, MAX_SIDE, whole=True),
        "generate only the masked part and this many pixels around it, enlarged, and paste the "
        "result back",
        needs="mask_image",
    ),
    Parameter(
        "resize",
        OneOf(get_args(Resize)),
        "how to fit an input image of another aspect ratio",
        "refuse it",
        aliases=("resize_mode",),
    ),
    Parameter(
        "refiner_start",
        Between(0, 1),
        "the share of the schedule after which the refiner takes over; 1 leaves the refiner out",
        "0.8, with a refiner",
        a1111="Refiner switch at",
        aliases=("high_noise_frac", "denoising_end", "refiner_switch_at"),
    ),
    Parameter(
        "original_size",
        SIZE,
        "the size that the image should look scaled from: a small one makes it look enlarged",
        "the result's",
        a1111="SDXL original size",
    ),
    Parameter(
        "crops_coords_top_left",
        CORNER,
        "how much should look cut off, in pixels from the top and from the left",
        "0 and 0: a centred image",
        ("--crop", "--crops-coords-top-left"),
        a1111="SDXL crop",
    ),
    Parameter(
        "target_size",
        SIZE,
        "the size that the image should look scaled to",
        "the result's",
        a1111="SDXL target size",
    ),
    Parameter(
        "negative_original_size",
        SIZE,
        "original_size for the negative prompt; for text to image only with negative_target_size",
        "original_size",
        a1111="SDXL negative original size",
    ),
    Parameter(
        "negative_crops_coords_top_left",
        CORNER,
        "crops_coords_top_left for the negative prompt, if it has sizes of its own",
        "0 and 0",
        ("--negative-crop", "--negative-crops-coords-top-left"),
        a1111="SDXL negative crop",
    ),
    Parameter(
        "negative_target_size",
        SIZE,
        "target_size for the negative prompt; for text to image only with negative_original_size",
        "target_size",
        a1111="SDXL negative target size",
    ),
    Parameter(
        "aesthetic_score",
        _SCORE,
        "how beautiful the image should be, for a refiner",
        "6",
        a1111="SDXL aesthetic score",
    ),
    Parameter(
        "negative_aesthetic_score",
        _SCORE,
        "aesthetic_score for the negative prompt",
        "2.5",
        a1111="SDXL negative aesthetic score",
    ),
    Parameter(
        "control",
        Anything("a dict from ControlNet names to images or `Control`s"),
        "an image for each ControlNet to follow",
        aliases=("controlnet", "control_image", "controlnet_conditioning_image"),
    ),
    Parameter(
        "guess_mode",
        Flag(),
        "let the control images decide whatever the prompt leaves open",
        "False",
        needs="control",
    ),
    Parameter(
        "vae",
        OneOf(get_args(VaeVariant)),
        "use another VAE of the bundle than the model's own: the tiny one is faster and less exact",
        "the model's own",
    ),
    Parameter(
        "vae_tiling",
        Flag(),
        "encode and decode in overlapping tiles, which takes less memory and changes the image "
        "slightly",
        "only if the whole image does not fit into memory",
        aliases=("enable_vae_tiling", "tiled_vae"),
    ),
    Parameter(
        "vae_tile_size",
        Between(4, MAX_SIDE, whole=True),
        "side of a tile in pixels",
        "the VAE's sample_size",
        needs="vae_tiling",
        aliases=("tile_size", "tile_sample_min_size"),
    ),
)
PARAMETER: Mapping[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}
ALIASES: Mapping[str, str | tuple[str, ...]] = {  # words of other programs
    "size": ("width", "height"),
    **{alias: parameter.name for parameter in PARAMETERS for alias in parameter.aliases},
}
