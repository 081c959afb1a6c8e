"""The request of a caller: one frozen object, checked when it is made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from inspect import getdoc
from typing import Any, TypeAlias, TypedDict, cast

from sdrt.control import Control
from sdrt.errors import RequestError, did_you_mean, quoted
from sdrt.families.family import Task
from sdrt.images.framing import size_text
from sdrt.images.masks import mask_from_source
from sdrt.images.reading import ImageSource, InputImage, input_image_from_source
from sdrt.parameters import (
    ALIASES,
    MAX_IMAGES,
    MAX_SEED,
    PARAMETER,
    PARAMETERS,
    PromptSyntax,
    Resize,
    Speed,
    VaeVariant,
)
from sdrt.parameters_text import parameters_text

MAX_NAME = 255  # characters: a component's folder has the name of its ControlNet
Pixels: TypeAlias = tuple[int, int]  # height and width, or from the top and from the left

_READERS = {"image": input_image_from_source, "mask_image": mask_from_source}


@dataclass(frozen=True)
class Request:
    """A request for images, with the parameter names of diffusers: from a prompt alone, from
    another image (`image`), or replacing only the masked part of that image (`mask_image`);
    `control` gives each ControlNet its image.

    A sequence of prompts gives `num_images_per_prompt` images of each. Image `i`, counted from 0,
    has the seed `seed + i` and can be generated again by itself. Images are PIL images or paths;
    they are read when the request is created.

    Raises `RequestError`, which names the field, the value and the allowed values.
    """

    prompt: str | Sequence[str]
    prompt_2: str | Sequence[str] | None = None
    negative_prompt: str | Sequence[str] | None = None
    negative_prompt_2: str | Sequence[str] | None = None
    prompt_syntax: PromptSyntax = "plain"
    height: int | None = None
    width: int | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_rescale: float = 0.0
    speed: Speed | None = None
    guidance_interval: tuple[float, float] | None = None
    forecast: int | None = None
    num_images_per_prompt: int = 1
    seed: int | None = None
    scheduler: str | None = None
    eta: float = 0.0
    clip_skip: int | None = None
    timesteps: Sequence[float] | None = None
    sigmas: Sequence[float] | None = None
    image: ImageSource | None = None
    mask_image: ImageSource | None = None
    strength: float | None = None
    padding_mask_crop: int | None = None
    resize: Resize | None = None
    refiner_start: float | None = None
    original_size: Pixels | None = None
    crops_coords_top_left: Pixels | None = None
    target_size: Pixels | None = None
    negative_original_size: Pixels | None = None
    negative_crops_coords_top_left: Pixels | None = None
    negative_target_size: Pixels | None = None
    aesthetic_score: float | None = None
    negative_aesthetic_score: float | None = None
    control: Mapping[str, Control | ImageSource] = field(default_factory=dict)
    guess_mode: bool = False
    vae: VaeVariant | None = None
    vae_tiling: bool | None = None
    vae_tile_size: int | None = None

    def __post_init__(self) -> None:
        for name, value in self._checked().items():
            object.__setattr__(self, name, value)
        self._check_prompts()
        self._check_num_images()
        self._check_seeds()
        self._check_needs()
        self._check_mask()
        self._check_resize()

    def _checked(self) -> dict[str, Any]:
        """Every field in its final form: lists may change later, and files may disappear."""
        given = {
            field.name: getattr(self, field.name)
            for field in fields(self)
            if getattr(self, field.name) is not None or field.default is not None
        }
        checked = {name: PARAMETER[name].kind.checked(name, value) for name, value in given.items()}
        for name, read in _READERS.items():
            if name in given:
                checked[name] = read(given[name], name)
        return checked | {"control": _controls_from_mapping(self.control)}

    @property
    def prompts(self) -> tuple[str, ...]:
        """The prompt of every image, in the order of the images."""
        return self._for_images(self.prompt)

    @property
    def prompts_2(self) -> tuple[str, ...]:
        """The prompt of every image for the second text encoder; "" counts as not given, as in
        diffusers."""
        return self._for_images(self.prompt_2 or self.prompt)

    @property
    def negative_prompts(self) -> tuple[str | None, ...]:
        """The negative prompt of every image."""
        return self._for_images(self.negative_prompt)

    @property
    def negative_prompts_2(self) -> tuple[str | None, ...]:
        """The negative prompt of every image for the second text encoder; None without
        `negative_prompt`, as in diffusers."""
        if self.negative_prompt is None:
            return self.negative_prompts
        return self._for_images(self.negative_prompt_2 or self.negative_prompt)

    @property
    def task(self) -> Task:
        """The kind of request, by the images that it starts from."""
        if self.mask_image is not None:
            return "inpainting"
        return "text to image" if self.image is None else "image to image"

    @property
    def num_images(self) -> int:
        """The number of images in the result."""
        return self._num_prompts * self.num_images_per_prompt

    @property
    def input_image(self) -> InputImage | None:
        """`image` after reading."""
        return cast(InputImage | None, self.image)

    @property
    def mask(self) -> InputImage | None:
        """`mask_image` after reading."""
        return cast(InputImage | None, self.mask_image)

    @property
    def controls(self) -> Mapping[str, Control]:
        """`control` with its images after reading."""
        return cast(Mapping[str, Control], self.control)

    @property
    def _num_prompts(self) -> int:
        return 1 if isinstance(self.prompt, str) else len(self.prompt)

    def _for_images(self, texts: str | Sequence[str] | None) -> tuple[Any, ...]:
        """The text of every image: the one for all, or that of its prompt."""
        if texts is None or isinstance(texts, str):
            return (texts,) * self.num_images
        return tuple(text for text in texts for _ in range(self.num_images_per_prompt))

    def _check_prompts(self) -> None:
        for name in ("prompt_2", "negative_prompt", "negative_prompt_2"):
            texts = getattr(self, name)
            if isinstance(texts, tuple) and len(texts) != self._num_prompts:
                raise RequestError(
                    f"{name}: got a list of {len(texts)} for {self._num_prompts} prompts, "
                    "expected one string for all, or a list with one for each"
                )
        if self.timesteps is not None and self.sigmas is not None:
            raise RequestError("timesteps and sigmas were both given: give one of them")

    def _check_num_images(self) -> None:
        if self.num_images > MAX_IMAGES:
            raise RequestError(
                f"num_images_per_prompt: got {self.num_images_per_prompt} for each of "
                f"{self._num_prompts} prompts, expected {MAX_IMAGES} images at most in all: "
                "make several requests"
            )

    def _check_seeds(self) -> None:
        if self.seed is not None and self.seed + self.num_images - 1 > MAX_SEED:
            raise RequestError(
                f"seed: got {self.seed} for {self.num_images} images, whose last seed would be "
                f"more than {MAX_SEED}: give a smaller seed"
            )

    def _check_needs(self) -> None:
        for parameter in PARAMETERS:
            value = getattr(self, parameter.name)  # 0 counts as given
            if value is None or value is False or parameter.needs is None:
                continue
            if not getattr(self, parameter.needs):
                raise RequestError(
                    f"{parameter.name} was given without {parameter.needs}: give both, or neither"
                )

    def _check_mask(self) -> None:
        image, mask = self.input_image, self.mask
        if image and mask and image.size != mask.size:
            raise RequestError(
                f"mask_image: got {size_text(mask.size)} pixels, expected {size_text(image.size)} "
                "like the image: white where to generate, black elsewhere"
            )

    def _check_resize(self) -> None:
        if self.resize is None:
            return
        if not (self.image or self.control):
            raise RequestError("resize was given without an image: give image or control, too")
        if self.padding_mask_crop is not None:
            raise RequestError(
                "resize and padding_mask_crop were both given, but the latter crops by itself: "
                "give one of them"
            )


class RequestOptions(TypedDict, total=False):
    """The keywords of `Pipeline.__call__` and `Pipeline.stream`: the fields of `Request`."""

    prompt_2: str | Sequence[str] | None
    negative_prompt: str | Sequence[str] | None
    negative_prompt_2: str | Sequence[str] | None
    prompt_syntax: PromptSyntax
    height: int | None
    width: int | None
    num_inference_steps: int | None
    guidance_scale: float | None
    guidance_rescale: float
    speed: Speed | None
    guidance_interval: tuple[float, float] | None
    forecast: int | None
    num_images_per_prompt: int
    seed: int | None
    scheduler: str | None
    eta: float
    clip_skip: int | None
    timesteps: Sequence[float] | None
    sigmas: Sequence[float] | None
    image: ImageSource | None
    mask_image: ImageSource | None
    strength: float | None
    padding_mask_crop: int | None
    resize: Resize | None
    refiner_start: float | None
    original_size: Pixels | None
    crops_coords_top_left: Pixels | None
    target_size: Pixels | None
    negative_original_size: Pixels | None
    negative_crops_coords_top_left: Pixels | None
    negative_target_size: Pixels | None
    aesthetic_score: float | None
    negative_aesthetic_score: float | None
    control: Mapping[str, Control | ImageSource]
    guess_mode: bool
    vae: VaeVariant | None
    vae_tiling: bool | None
    vae_tile_size: int | None


def request_from(prompt: str | Sequence[str] | Request, options: Mapping[str, Any]) -> Request:
    """The request of a call: a prompt or a request, changed by `options`.

    Raises `RequestError` for an option that does not exist.
    """
    for name in options:
        if name not in PARAMETER:
            advice = did_you_mean(name, PARAMETER, ALIASES)
            raise RequestError(f"unknown parameter {quoted(name)}: {advice}")
    if isinstance(prompt, Request):
        return replace(prompt, **options)
    return Request(prompt, **options)


def _controls_from_mapping(control: object) -> dict[str, Control]:
    if not isinstance(control, Mapping):
        raise RequestError(
            f"control: got an object of type {type(control).__name__}, expected a dict from "
            'ControlNet names to images, such as {"canny": "edges.png"}'
        )
    for name in control:
        if not isinstance(name, str) or len(name) > MAX_NAME:
            raise RequestError(f"control: got {quoted(name)}, expected the name of a ControlNet")
    return {
        name: value if isinstance(value, Control) else Control(value)
        for name, value in control.items()
    }


Request.__doc__ = f"{getdoc(Request)}\n\nFields:\n{parameters_text()}"
