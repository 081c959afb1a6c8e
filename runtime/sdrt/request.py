"""What a caller asks for: one frozen object, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, get_args

from sdrt.control import Control, is_number
from sdrt.errors import RequestError, did_you_mean
from sdrt.images.framing import Resize
from sdrt.images.reading import Picture, PictureSource, picture_from_source

MAX_STEPS = 1000  # as many as the training's timesteps
MAX_SIDE = 8192  # pixels
MAX_IMAGES = 1024
MAX_SEED = 2**64 - 1


@dataclass(frozen=True)
class Request:
    """What to draw, with diffusers' parameter names: from a prompt alone, from a picture
    (`image`), or where a picture's mask is white (`mask_image`); `control` gives each
    ControlNet its picture.

    `None` means: what the bundle recommends, else diffusers' default; the size is the picture's,
    else the control picture's, else the model's. A sequence of prompts gives
    `num_images_per_prompt` images of each. Image `i` has seed `seed + i` and can be made
    again alone.

    Pictures are PIL images or paths, and are read here. `resize` says how they take another shape
    than their own; without it that is refused. With `padding_mask_crop` only the surroundings of
    the mask are drawn, at the model's size and with so many pixels around, and pasted back.

    Raises `RequestError` naming the field, the value and what is allowed.
    """

    prompt: str | Sequence[str]
    negative_prompt: str | Sequence[str] = ""
    height: int | None = None  # pixels
    width: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float = 0.0
    num_images_per_prompt: int = 1
    seed: int | None = None  # None: one is drawn and told in the result
    scheduler: str | None = None  # a short name or a diffusers class name
    eta: float = 0.0  # DDIM's share of fresh noise
    clip_skip: int | None = None
    timesteps: Sequence[int] | None = None
    sigmas: Sequence[float] | None = None
    image: PictureSource | None = None
    mask_image: PictureSource | None = None  # white is painted, black stays
    strength: float | None = None  # 0..1, the share of the steps; None: 0.8, with a mask 1
    padding_mask_crop: int | None = None  # pixels
    resize: Resize | None = None
    control: Mapping[str, Control | PictureSource] = field(default_factory=dict)
    guess_mode: bool = False  # ControlNets see the prompt alone, and count more where it is deep

    def __post_init__(self) -> None:
        for name in ("prompt", "negative_prompt", "timesteps", "sigmas"):
            value = getattr(self, name)
            if isinstance(value, Sequence) and not isinstance(value, str):
                object.__setattr__(self, name, tuple(value))  # a caller's list may change later
        self._check_prompts()
        for name, low, high in (
            ("height", 8, MAX_SIDE),
            ("width", 8, MAX_SIDE),
            ("num_inference_steps", 1, MAX_STEPS),
            ("num_images_per_prompt", 1, MAX_IMAGES),
            ("seed", 0, MAX_SEED),
            ("clip_skip", 0, 100),
            ("padding_mask_crop", 0, MAX_SIDE),
        ):
            _check_integer(name, getattr(self, name), low, high)
        for name, highest in (
            *(("guidance_scale", 1000), ("guidance_rescale", 1)),
            *(("eta", 1), ("strength", 1)),
        ):
            _check_number(name, getattr(self, name), 0, highest)
        if self.seed is not None and self.seed + self.num_images - 1 > MAX_SEED:
            raise RequestError(
                f"seed: {self.seed} + {self.num_images - 1} images exceeds {MAX_SEED}"
            )
        if self.timesteps is not None and self.sigmas is not None:
            raise RequestError("timesteps and sigmas were both given: give one of them")
        self._read_pictures()
        self._check_pictures()

    @classmethod
    def from_keywords(cls, prompt: str | Sequence[str], keywords: dict[str, Any]) -> Request:
        """A request from a call's keywords; an unknown one is told together with the nearest known
        one.
        """
        known = [field.name for field in fields(cls)]
        for name in keywords:
            if name not in known:
                raise RequestError(f"unknown parameter {name!r}: {did_you_mean(name, known)}")
        return cls(prompt, **keywords)

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of every image, in the order of the images."""
        return self._repeat(self.prompt)

    @property
    def negative_prompts(self) -> tuple[str, ...]:
        """The negative prompt of every image."""
        if isinstance(self.negative_prompt, str):
            return (self.negative_prompt,) * self.num_images
        return self._repeat(self.negative_prompt)

    @property
    def num_images(self) -> int:
        """How many images come out."""
        num_prompts = 1 if isinstance(self.prompt, str) else len(self.prompt)
        return num_prompts * self.num_images_per_prompt

    @property
    def picture(self) -> Picture | None:
        """`image`, once it has been read."""
        assert self.image is None or isinstance(self.image, Picture)
        return self.image

    @property
    def mask(self) -> Picture | None:
        """`mask_image`, once it has been read."""
        assert self.mask_image is None or isinstance(self.mask_image, Picture)
        return self.mask_image

    @property
    def controls(self) -> dict[str, Control]:
        """`control`, once its pictures have been read."""
        return {name: c for name, c in self.control.items() if isinstance(c, Control)}

    def _read_pictures(self) -> None:
        for name in ("image", "mask_image"):
            source = getattr(self, name)
            if source is not None:
                object.__setattr__(self, name, picture_from_source(source, name))
        if not isinstance(self.control, Mapping):
            raise RequestError(
                f"control: got a {type(self.control).__name__}, expected a dict of ControlNets' "
                'names, such as {"canny": "edges.png"}'
            )
        for name in self.control:
            if not isinstance(name, str):
                raise RequestError(f"control: got {name!r}, expected the name of a ControlNet")
        controls = {
            name: control if isinstance(control, Control) else Control(control)
            for name, control in self.control.items()
        }
        object.__setattr__(self, "control", controls)

    def _check_pictures(self) -> None:
        if not isinstance(self.guess_mode, bool):
            raise RequestError(f"guess_mode: got {self.guess_mode!r}, expected True or False")
        for name, needed in (
            *(("mask_image", "image"), ("strength", "image")),
            *(("padding_mask_crop", "mask_image"), ("guess_mode", "control")),
        ):
            value = getattr(self, name)  # 0 is a value
            if not (value is None or value is False or getattr(self, needed)):
                raise RequestError(f"{name} was given without {needed}: give both, or neither")
        self._check_resize()
        if self.picture and self.mask and self.picture.size != self.mask.size:
            got, expected = ("{}×{}".format(*picture.size) for picture in (self.mask, self.picture))
            raise RequestError(
                f"mask_image: got {got} pixels, expected {expected} as the image has: white where "
                "it is to be painted, black elsewhere"
            )

    def _check_resize(self) -> None:
        if self.resize is None:
            return
        if self.resize not in get_args(Resize):
            raise RequestError(
                f"resize: got {self.resize!r}, {did_you_mean(str(self.resize), get_args(Resize))}"
            )
        if not (self.image or self.control):
            raise RequestError("resize was given without a picture: give image or control, too")
        if self.padding_mask_crop is not None:
            raise RequestError(
                "resize and padding_mask_crop were both given: the latter cuts its own part out of "
                "the picture, so give one of them"
            )

    def _repeat(self, texts: str | Sequence[str]) -> tuple[str, ...]:
        texts = (texts,) if isinstance(texts, str) else texts
        return tuple(text for text in texts for _ in range(self.num_images_per_prompt))

    def _check_prompts(self) -> None:
        for name in ("prompt", "negative_prompt"):
            texts = getattr(self, name)
            for text in texts if isinstance(texts, tuple) else (texts,):
                if not isinstance(text, str):
                    raise RequestError(f"{name}: got {text!r}, expected a text or a list of texts")
        if not isinstance(self.prompt, str) and not self.prompt:
            raise RequestError("prompt: got an empty list, expected at least one text")
        negative = self.negative_prompt
        if isinstance(negative, str):
            return
        num_prompts = 1 if isinstance(self.prompt, str) else len(self.prompt)
        if len(negative) != num_prompts:
            raise RequestError(
                f"negative_prompt: got {len(negative)} texts for {num_prompts} prompts, expected "
                "one for all of them or one for each"
            )


def _check_integer(name: str, value: object, low: int, high: int) -> None:
    if value is None:
        return
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise RequestError(f"{name}: got {value!r}, expected a whole number from {low} to {high}")


def _check_number(name: str, value: object, low: float, high: float) -> None:
    if value is None:
        return
    if not is_number(value, low, high):
        raise RequestError(f"{name}: got {value!r}, expected a number from {low:g} to {high:g}")
