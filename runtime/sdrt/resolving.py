"""A request resolved against a bundle: its `None`s replaced, its limits checked."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from sdrt.bundle.folder import Bundle
from sdrt.errors import RequestError
from sdrt.images.framing import (
    MAX_DISPROPORTION,
    Frame,
    Size,
    disproportion,
    same_proportions,
    size_text,
)
from sdrt.images.masks import crop_box
from sdrt.images.reading import InputImage
from sdrt.parameters import MAX_SIDE, Speed
from sdrt.presets import forecast_of_request
from sdrt.request import Request
from sdrt.runnable_requests import require_runnable
from sdrt.scheduling import Steps, steps_of, with_forecasts
from sdrt.time_ids import require_time_ids

_REFINER_START = 0.8  # the share in diffusers' examples
_MAX_RANDOM_SEED = 2**32  # torch's CPU generator uses only the low 32 bits


@dataclass(frozen=True)
class Settings:
    """The values for a request's `None`s in a bundle, by the request's names."""

    height: int  # pixels
    width: int
    guidance_scale: float
    seed: int
    negative_prompt: str | Sequence[str] | None  # None if the model takes zeros in its place
    strength: float  # 1 for a request without an image
    speed: Speed
    forecast: int | None  # the request's, or what its speed means
    steps: Steps
    refiner_start: float | None  # None without a refiner
    refiner_steps: Steps | None  # None if no step is left to the refiner

    @property
    def num_inference_steps(self) -> int:
        return self.steps.num_inference_steps

    def applied_to(self, request: Request) -> Request:
        """The request with each `None` replaced by the value in use."""
        return replace(
            request,
            negative_prompt=self.negative_prompt,
            height=self.height,
            width=self.width,
            num_inference_steps=self.num_inference_steps,
            guidance_scale=self.guidance_scale,
            seed=self.seed,
            strength=None if request.image is None else self.strength,
            speed=self.speed,
            forecast=self.forecast,
            refiner_start=self.refiner_start,
        )


def settings_of(request: Request, bundle: Bundle) -> Settings:
    """The values that the request will use.

    RequestError if this bundle cannot run the request, SamplerError for an impossible schedule,
    BundleError if the bundle is incomplete.
    """
    width, height = _size(request, bundle)
    defaults = bundle.defaults_for(request.task)
    strength = _first(request.strength, defaults.get("strength"), 1.0)
    refiner_start = _refiner_start(request, bundle)
    guidance_scale = _first(request.guidance_scale, defaults["guidance_scale"])
    steps, refiner_steps = _steps(request, strength, refiner_start, bundle)
    forecast = forecast_of_request(request, guidance_scale, steps, refiner_steps)
    steps, refiner_steps = with_forecasts(forecast, guidance_scale, steps, refiner_steps)
    settings = Settings(
        height=height,
        width=width,
        guidance_scale=guidance_scale,
        seed=_first(request.seed, secrets.randbelow(_MAX_RANDOM_SEED)),
        negative_prompt=_negative_prompt(request, bundle),
        strength=strength,
        speed=_first(request.speed, "exact"),
        forecast=forecast,
        steps=steps,
        refiner_start=refiner_start,
        refiner_steps=refiner_steps,
    )
    _check_size(settings, bundle)
    require_runnable(request, bundle)
    require_time_ids(request, *(each.family.denoiser for each in _bundles(bundle)))
    _check_proportions(request, frame_of(request, settings), bundle)
    return settings


def frame_of(request: Request, settings: Settings) -> Frame:
    """The framing of a request's input images."""
    size = settings.width, settings.height
    if request.padding_mask_crop is None or request.mask is None:
        return Frame(size, request.resize)
    return Frame(size, box=crop_box(request.mask.image, size, request.padding_mask_crop))


def size_of_input(request: Request) -> Size | None:
    """Width and height of the input image that sets the size of the result, if any."""
    if request.padding_mask_crop is not None:
        return None
    images = (request.input_image, *request.controls.values())
    return next((image.size for image in images if image), None)


def _size(request: Request, bundle: Bundle) -> Size:
    """Width and height: the request's, else the input image's, cut to whole latents, else the
    model's."""
    defaults = bundle.defaults_for(request.task)
    size = defaults["width"], defaults["height"]
    given, multiple = size_of_input(request), bundle.family.latents.pixel_multiple
    if given:
        width, height = (max(side // multiple, 1) * multiple for side in given)
        size = width, height
        if max(_first(request.width, width), _first(request.height, height)) > MAX_SIDE:
            raise RequestError(
                f"the image has {size_text(given)} pixels, expected {MAX_SIDE} at most on "
                "each side: give height and width"
            )
    return _first(request.width, size[0]), _first(request.height, size[1])


def _check_size(settings: Settings, bundle: Bundle) -> None:
    multiple = bundle.family.latents.pixel_multiple
    for side in ("height", "width"):
        value = getattr(settings, side)
        if value % multiple:
            below, above = value // multiple * multiple, (value // multiple + 1) * multiple
            raise RequestError(
                f"{side}: got {value}, expected a multiple of {multiple}, such as "
                f"{max(below, multiple)} or {above}"
            )


def _check_proportions(request: Request, frame: Frame, bundle: Bundle) -> None:
    """RequestError for an image of another aspect ratio, unless the request sets how to fit it."""
    images = {"image": request.input_image}
    for name, control in request.controls.items():
        images[f"control image '{name}'"] = control.input_image
    for role, image in images.items():
        if image is None:
            continue
        if frame.box is not None:
            _check_same_size(role, image, request.input_image)
        elif frame.resize is None and not same_proportions(
            image.size, frame.size, bundle.family.latents.vae_scale_factor
        ):
            raise RequestError(
                f"{role}: got {size_text(image.size)} pixels for a result of "
                f"{size_text(frame.size)}: set resize to crop, pad or stretch"
            )
        elif frame.resize == "crop":
            _check_narrow(role, image.size, frame.size)
    if frame.box is not None:
        left, top, right, bottom = frame.box
        _check_narrow("padding_mask_crop", (right - left, bottom - top), frame.size)


def _check_same_size(role: str, control: InputImage, image: InputImage | None) -> None:
    if image is not None and control.size != image.size:
        raise RequestError(
            f"{role}: got {size_text(control.size)} pixels, expected {size_text(image.size)} like "
            "the image, because padding_mask_crop cuts the same part out of both"
        )


def _check_narrow(role: str, part: Size, size: Size) -> None:
    """Images to crop are enlarged first; a narrow strip would not fit into memory."""
    if disproportion(part, size) > MAX_DISPROPORTION:
        raise RequestError(
            f"{role}: got {size_text(part)} pixels for a result of {size_text(size)}, which would "
            f"cut away all but 1/{disproportion(part, size):.0f} of it: use another aspect ratio"
        )


def _refiner_start(request: Request, bundle: Bundle) -> float | None:
    if bundle.refiner is not None:
        start: float = _first(request.refiner_start, _REFINER_START)
        return start
    if request.refiner_start is not None:
        raise RequestError(
            "refiner_start was given without a refiner: give --refiner BUNDLE, in Python "
            "Pipeline.open(bundle, refiner=…)"
        )
    return None


def _steps(
    request: Request, strength: float, refiner_start: float | None, bundle: Bundle
) -> tuple[Steps, Steps | None]:
    """The steps of the bundle and of its refiner.

    The refiner counts as many steps and has the same scheduler, as others scale latents
    differently, with the options of its own configuration.
    """
    steps = steps_of(request, strength, bundle)
    if bundle.refiner is None or refiner_start is None or refiner_start == 1:
        return steps, None
    num_steps, scheduler = steps.num_inference_steps, scheduler_of(request, bundle)
    request = replace(request, num_inference_steps=num_steps, scheduler=scheduler)
    refiner_steps = steps_of(request, 1.0, bundle.refiner)
    return steps.before(refiner_start), refiner_steps.after(refiner_start)


def scheduler_of(request: Request, bundle: Bundle) -> str:
    """The name of the scheduler that runs."""
    name: str = request.scheduler or bundle.scheduler_config["_class_name"]
    return name


def _negative_prompt(request: Request, bundle: Bundle) -> str | Sequence[str] | None:
    """The negative prompt; a missing one is empty, unless a model takes zeros in its place."""
    encoded = all(each.family.text.missing_negative == "encode" for each in _bundles(bundle))
    return "" if request.negative_prompt is None and encoded else request.negative_prompt


def _bundles(bundle: Bundle) -> tuple[Bundle, ...]:
    return (bundle,) if bundle.refiner is None else (bundle, bundle.refiner)


def _first(*values: Any) -> Any:
    return next(value for value in values if value is not None)
