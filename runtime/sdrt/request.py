"""What a caller asks for: one frozen object, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, cast, get_args

from sdrt.control import Control
from sdrt.errors import RequestError, did_you_mean
from sdrt.images.framing import Resize
from sdrt.images.reading import ImageSource, InputImage, input_image_from_source
from sdrt.limits import MAX_SIDE, RECOMMENDED, Between

MAX_SEED = 2**64 - 1
LIMITS = {
    **RECOMMENDED,
    "num_images_per_prompt": Between(1, 1024, whole=True),
    "seed": Between(0, MAX_SEED, whole=True),
    "clip_skip": Between(0, 100, whole=True),
    "padding_mask_crop": Between(0, MAX_SIDE, whole=True),
    "guidance_rescale": Between(0, 1),
    "eta": Between(0, 1),
    "strength": Between(0, 1),
}

_LISTS = ("prompt", "negative_prompt", "timesteps", "sigmas")
_NEEDS = {  # a field, and the one that it requires
    "mask_image": "image",
    "strength": "image",
    "padding_mask_crop": "mask_image",
    "guess_mode": "control",
}


@dataclass(frozen=True)
class Request:
    """What to generate, with the parameter names of diffusers: an image of a prompt alone, one that
    begins with another image (`image`), or one that replaces its masked part (`mask_image`);
    `control` gives each ControlNet its image.

    `None` means: what the bundle recommends, else the default of diffusers; the size is that of the
    image, else of the control image, else the model's. A sequence of prompts gives
    `num_images_per_prompt` images of each. Image `i` has seed `seed + i` and can be generated again
    alone.

    Images are PIL images or paths, and are read here. `resize` says how they are brought to another
    shape; without it that is an error. With `padding_mask_crop` only the mask and so many pixels
    around it are generated, at the model's size, and pasted back.

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
    seed: int | None = None  # None: a random one, which the result names
    scheduler: str | None = None  # its name in any spelling; kept as sdrt's or diffusers'
    eta: float = 0.0  # DDIM's share of fresh noise
    clip_skip: int | None = None
    timesteps: Sequence[int] | None = None
    sigmas: Sequence[float] | None = None
    image: ImageSource | None = None
    mask_image: ImageSource | None = None  # white is generated, black stays
    strength: float | None = None  # 0..1, the share of the steps; None: 0.8, with a mask 1
    padding_mask_crop: int | None = None  # pixels
    resize: Resize | None = None
    control: Mapping[str, Control | ImageSource] = field(default_factory=dict)
    guess_mode: bool = False  # ControlNets see the positive prompt only; deep residuals count more

    def __post_init__(self) -> None:
        self._check_prompts()
        for name, limits in LIMITS.items():
            if getattr(self, name) is not None:
                limits.check(name, getattr(self, name))
        if self.seed is not None and self.seed + self.num_images - 1 > MAX_SEED:
            raise RequestError(
                f"seed: {self.seed} + {self.num_images - 1} images exceeds {MAX_SEED}"
            )
        if self.timesteps is not None and self.sigmas is not None:
            raise RequestError("timesteps and sigmas were both given: give one of them")
        for name, value in self._converted().items():
            object.__setattr__(self, name, value)
        self._check_needs()
        self._check_mask()
        self._check_resize()

    def _converted(self) -> dict[str, Any]:
        """The fields that are not kept as given: lists may change later, files may go, and a
        scheduler has many names."""
        lists = {name: getattr(self, name) for name in _LISTS if _is_list(getattr(self, name))}
        return {
            **{name: tuple(values) for name, values in lists.items()},
            "image": _input_image_or_none(self.image, "image"),
            "mask_image": _input_image_or_none(self.mask_image, "mask_image"),
            "control": _controls_from_mapping(self.control),
            "scheduler": _scheduler_or_none(self.scheduler),
        }

    @classmethod
    def from_keywords(cls, prompt: str | Sequence[str], keywords: dict[str, Any]) -> Request:
        """A request from a call's keywords. Raises `RequestError` for an unknown one."""
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
    def input_image(self) -> InputImage | None:
        """`image`, which has been read."""
        return cast(InputImage | None, self.image)

    @property
    def mask(self) -> InputImage | None:
        """`mask_image`, which has been read."""
        return cast(InputImage | None, self.mask_image)

    @property
    def controls(self) -> Mapping[str, Control]:
        """`control`, whose images have been read."""
        return cast(Mapping[str, Control], self.control)

    def _check_needs(self) -> None:
        if not isinstance(self.guess_mode, bool):
            raise RequestError(f"guess_mode: got {self.guess_mode!r}, expected True or False")
        for name, needed in _NEEDS.items():
            value = getattr(self, name)  # 0 is a value
            if not (value is None or value is False or getattr(self, needed)):
                raise RequestError(f"{name} was given without {needed}: give both, or neither")

    def _check_mask(self) -> None:
        if self.input_image and self.mask and self.input_image.size != self.mask.size:
            got, expected = ("{}×{}".format(*image.size) for image in (self.mask, self.input_image))
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
            raise RequestError("resize was given without an image: give image or control, too")
        if self.padding_mask_crop is not None:
            raise RequestError(
                "resize and padding_mask_crop were both given: the latter cuts its own part out of "
                "the image, so give one of them"
            )

    def _repeat(self, texts: str | Sequence[str]) -> tuple[str, ...]:
        texts = (texts,) if isinstance(texts, str) else texts
        return tuple(text for text in texts for _ in range(self.num_images_per_prompt))

    def _check_prompts(self) -> None:
        for name in ("prompt", "negative_prompt"):
            texts = getattr(self, name)
            for text in texts if _is_list(texts) else (texts,):
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


def _is_list(value: object) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _input_image_or_none(source: ImageSource | None, role: str) -> InputImage | None:
    return None if source is None else input_image_from_source(source, role)


def _scheduler_or_none(name: object) -> str | None:
    from sdrt.samplers.names import canonical_name  # most requests name none

    return None if name is None else canonical_name(name)


def _controls_from_mapping(control: object) -> dict[str, Control]:
    if not isinstance(control, Mapping):
        raise RequestError(
            f"control: got a {type(control).__name__}, expected a dict of ControlNets' "
            'names, such as {"canny": "edges.png"}'
        )
    for name in control:
        if not isinstance(name, str):
            raise RequestError(f"control: got {name!r}, expected the name of a ControlNet")
    return {
        name: value if isinstance(value, Control) else Control(value)
        for name, value in control.items()
    }
