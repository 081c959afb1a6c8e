"""The facts in which model families differ, as records that a manifest holds.

Shapes: B images, L tokens, D width of a text encoder, C latent channels, (h, w) latent size.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias

from sdrt.errors import BundleError, quoted
from sdrt.files.json_fields import within
from sdrt.parameters import PARAMETER
from sdrt.recommended import RECOMMENDED, check_recommended

MAX_NAME = 100  # letters of a component's name, which begins names of files

# The purpose of a network.
Role: TypeAlias = Literal[
    "text encoder", "image encoder", "denoiser", "vae encoder", "vae decoder", "controlnet"
]
# What a request starts from: noise alone, an image, an image with a mask.
Task: TypeAlias = Literal["text to image", "image to image", "inpainting"]

_MAX_COUNT = 65536  # of channels and of the factors between pixels and latents


@dataclass(frozen=True)
class Encoder:
    """One text encoder, and the output of it that the denoiser reads."""

    component: str  # "text_encoder_2"
    tokenizer: str  # the tokenizer's folder: "tokenizer_2"
    kind: Literal["clip", "t5", "vision"] = "clip"
    layer: int | None = None  # None: the last state (SD1, SD2); -2: the penultimate (SDXL, SD3)
    normed: bool = True  # earlier layers (clip_skip) go through the final layer norm
    pooled: str | None = None  # the output that is the pooled vector
    max_tokens: int = 77
    required: bool = True  # if not, a bundle without it feeds zeros in its place (SD3's T5)

    @property
    def has_own_layer(self) -> bool:
        """True if the denoiser reads an earlier layer: A1111 then ignores `clip_skip`."""
        return self.layer is not None

    def __post_init__(self) -> None:
        require_plain_name("component", self.component)
        require_plain_name("tokenizer", self.tokenizer)
        if self.layer is not None and self.layer >= 0:
            raise BundleError(f"layer: got {self.layer}, expected a negative number or null")
        if self.max_tokens < 3:
            raise BundleError(f"max_tokens: got {self.max_tokens}, expected at least 3")


@dataclass(frozen=True)
class TextRecipe:
    """The recipe that joins encoder states to a context (B, L, D) and a pooled vector (B, D).

    Numbers are indices into `encoders`. The context joins the inner groups along D and the results
    along L; the pooled vectors are joined along D.
    """

    encoders: tuple[Encoder, ...]
    context: tuple[tuple[int, ...], ...] = ((0,),)
    pooled: tuple[int, ...] = ()
    width: int | None = None  # each part of the context is padded with zeros to this D (SD3: 4096)
    missing_negative: Literal["encode", "zeros"] = "encode"  # None: encoded like "", or zeros

    def __post_init__(self) -> None:
        if not all(self.context):
            raise BundleError("context: got an empty group, expected indices of encoders")
        used = [index for group in (*self.context, self.pooled) for index in group]
        for index in used:
            if not 0 <= index < len(self.encoders):
                raise BundleError(
                    f"context, pooled: got encoder {index}, expected one of {len(self.encoders)}"
                )
        for index in self.pooled:
            if self.encoders[index].pooled is None or not self.encoders[index].required:
                raise BundleError(
                    f"pooled: encoder {index} names no output for it, or may be absent"
                )
        for group in self.context:
            if len({self.encoders[index].max_tokens for index in group}) > 1:
                raise BundleError(f"context: the encoders {list(group)} differ in max_tokens")
        if self.width is None and not all(encoder.required for encoder in self.encoders):
            raise BundleError("width: missing, but the zeros of an absent encoder need one")

    def renamed(self, name_of: Callable[[str], str]) -> TextRecipe:
        """The recipe with other names of the encoders and their tokenizers."""
        encoders = tuple(
            replace(
                encoder,
                component=name_of(encoder.component),
                tokenizer=name_of(encoder.tokenizer),
            )
            for encoder in self.encoders
        )
        return replace(self, encoders=encoders)

    @property
    def num_tokens(self) -> int:
        """The length L of the context."""
        return sum(self.encoders[group[0]].max_tokens for group in self.context)


@dataclass(frozen=True)
class LatentSpace:
    """The latents of the denoiser, scaled as `(z - shift_factor) * scaling_factor`, or per channel
    as `(z - mean) * scaling_factor / std`.
    """

    channels: int
    vae_scale_factor: int  # pixels per latent, in each direction
    scaling_factor: float
    shift_factor: float = 0.0
    mean: tuple[float, ...] | None = None  # (C,)
    std: tuple[float, ...] | None = None  # (C,)
    multiple: int = 1  # of height and width in latents (SD3's patches: 2)
    frames: int | None = None  # None for images

    def __post_init__(self) -> None:
        for name in ("channels", "vae_scale_factor", "multiple"):
            if not 1 <= getattr(self, name) <= _MAX_COUNT:
                raise BundleError(
                    f"{name}: got {quoted(getattr(self, name))}, expected 1 to {_MAX_COUNT}"
                )
        if self.scaling_factor == 0:
            raise BundleError("scaling_factor: got 0, expected any other number")
        for name in ("mean", "std"):
            values: Sequence[float] | None = getattr(self, name)
            if values is not None and len(values) != self.channels:
                raise BundleError(
                    f"{name}: got {len(values)} numbers, expected one for each of the "
                    f"{self.channels} channels"
                )

    @property
    def pixel_multiple(self) -> int:
        """The multiple of which the sides of an image, in pixels, must be."""
        return self.vae_scale_factor * self.multiple

    def shape_of(self, size: tuple[int, int]) -> tuple[int, ...]:
        """The shape of one image's latents, for its width and height in pixels: (1, C, h, w), with
        frames (1, C, F, h, w)."""
        width, height = (side // self.vae_scale_factor for side in size)
        frames = () if self.frames is None else (self.frames,)
        return 1, self.channels, *frames, height, width


@dataclass(frozen=True)
class DenoiserFacts:
    """The denoiser's name and its inputs other than latents, timestep and context."""

    component: Literal["unet", "transformer"] = "unet"
    extra_channels: Literal["none", "mask", "depth", "image"] = "none"  # joined to the latents
    guidance: Literal["classifier-free", "embedded", "per-frame"] = "classifier-free"
    time_ids: tuple[Literal["original_size", "crop", "target_size", "aesthetic_score"], ...] = ()


@dataclass(frozen=True)
class Family:
    """One family of models. `defaults` have the names of a request's fields; `image_defaults` and
    `inpainting_defaults` replace some of them for requests with an image or with a mask.

    `scheduler` holds the options that diffusers' pipeline corrects in a scheduler's configuration,
    `inpainting_scheduler` the further ones that it corrects for inpainting. `image_timesteps` says
    how an input image with a strength shortens the schedule: its first steps are left out, or all
    steps are spaced again over what is left, by schedulers that can.
    """

    name: str  # "stable-diffusion-1"
    text: TextRecipe
    latents: LatentSpace
    denoiser: DenoiserFacts
    defaults: Mapping[str, Any] = field(default_factory=dict)
    image_defaults: Mapping[str, Any] = field(default_factory=lambda: {"strength": 0.8})
    inpainting_defaults: Mapping[str, Any] = field(default_factory=lambda: {"strength": 1.0})
    scheduler: Mapping[str, Any] = field(default_factory=dict)
    inpainting_scheduler: Mapping[str, Any] = field(default_factory=dict)
    image_timesteps: Literal["left out", "spaced again"] = "left out"

    def __post_init__(self) -> None:
        check_recommended(self.defaults)
        for name in RECOMMENDED:
            if name not in self.defaults:
                raise BundleError(f"defaults.{name}: missing")
        for kind in ("image_defaults", "inpainting_defaults"):
            _check_further_defaults(kind, getattr(self, kind))

    def defaults_for(self, task: Task) -> Mapping[str, Any]:
        """The values for None in a request of this kind."""
        further = {
            "text to image": {},
            "image to image": self.image_defaults,
            "inpainting": self.inpainting_defaults,
        }
        return {**self.defaults, **further[task]}

    @property
    def native_size(self) -> tuple[int, int]:
        """Width and height in pixels that the model was trained on."""
        return self.defaults["width"], self.defaults["height"]

    @property
    def unsupported(self) -> str | None:
        """A fact that this version of sdrt does not support yet, or None."""
        facts = {
            f"extra_channels {self.denoiser.extra_channels!r}": self.denoiser.extra_channels
            in ("depth", "image"),
            "guidance 'per-frame'": self.denoiser.guidance == "per-frame",
            "frames": self.latents.frames is not None,
        }
        return next((fact for fact, holds in facts.items() if holds), None)


def _check_further_defaults(kind: str, defaults: Mapping[str, Any]) -> None:
    """BundleError unless they hold a strength, and otherwise what a bundle's defaults may hold."""
    with within(kind):
        PARAMETER["strength"].kind.checked("strength", defaults.get("strength"))
        check_recommended({name: defaults[name] for name in defaults if name != "strength"})


def require_plain_name(field: str, name: str) -> None:
    """BundleError unless the name is valid for a folder inside a bundle."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9._-]*", name) or len(name) > MAX_NAME:
        raise BundleError(
            f"{field}: got {name[:MAX_NAME]!r}, expected a name of at most {MAX_NAME} letters, "
            "digits, '_', '-' and '.'"
        )
