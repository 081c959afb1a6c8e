"""The settings of a ControlNet in a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

import numpy as np

from sdrt.errors import RequestError
from sdrt.images.annotators import annotate, require_annotator
from sdrt.images.framing import Frame, Size
from sdrt.images.reading import ImageSource, InputImage, array_from_image, input_image_from_source
from sdrt.kinds import Between
from sdrt_engines import Array

LIMITS = {"scale": Between(-10, 10), "start": Between(0, 1), "end": Between(0, 1)}


@dataclass(frozen=True, eq=False)
class Control:
    """An image for one ControlNet, and its scale and window.

    Fields:
        image: a PIL image, a path, or an array (H, W, K) of the request's size with values from 0
            to 1; a ControlNet whose input is neither RGB nor grey needs an array
        scale: the strength of the ControlNet, -10 to 10; diffusers' `controlnet_conditioning_scale`
        start, end: the part of the steps during which it is active, 0 to 1; diffusers'
            `control_guidance_start` and `control_guidance_end`
        annotate: "canny" to make the control image out of `image` first, or None

    Raises `RequestError` for a value that is not allowed.
    """

    image: ImageSource | Array
    scale: float = 1.0
    start: float = 0.0
    end: float = 1.0
    annotate: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image", _image_or_copy(self.image))
        if self.annotate is not None:
            require_annotator(self.annotate)
            if self.input_image is None:
                raise RequestError(
                    "control: got an annotator for an array, expected an image: leave out annotate"
                )
        for name, limits in LIMITS.items():
            object.__setattr__(self, name, limits.checked(f"control {name}", getattr(self, name)))
        if self.start >= self.end:
            raise RequestError(
                f"control window: got start {self.start:g} and end {self.end:g}, expected a start "
                "before the end"
            )

    @property
    def input_image(self) -> InputImage | None:
        """The image, unless an array was given."""
        return None if isinstance(self.image, np.ndarray) else cast(InputImage, self.image)

    @property
    def size(self) -> Size:
        """Width and height of the image or the array."""
        if isinstance(self.image, np.ndarray):
            height, width, _ = self.image.shape
            return width, height
        return cast(InputImage, self.image).size

    def is_active(self, step: int, num_steps: int) -> bool:
        """True if the whole step is inside the window, as diffusers counts."""
        return is_inside((self.start, self.end), step, num_steps) and self.scale != 0

    def conditioning(self, num_channels: int | str, frame: Frame) -> Array:
        """The net's input, (1, K, H, W) in 0..1. Raises `RequestError` if channels do not fit."""
        if isinstance(self.image, np.ndarray):
            return self._from_array(self.image, num_channels, frame)
        if num_channels not in (1, 3):
            raise RequestError(
                f"control image: this ControlNet takes {num_channels} channels, not an image: "
                f"give an array (height, width, {num_channels}) with values from 0 to 1"
            )
        framed = frame(cast(InputImage, self.image).image)
        if self.annotate is not None:  # last: resizing would blur lines of one pixel
            framed = annotate(self.annotate, framed)
        return array_from_image(framed if num_channels == 3 else framed.convert("L"))

    def _from_array(self, array: Array, num_channels: int | str, frame: Frame) -> Array:
        width, height = frame.size
        if array.shape != (height, width, num_channels) or frame.box is not None:
            raise RequestError(
                f"control image: got an array {array.shape}, expected ({height}, {width}, "
                f"{num_channels}), and no padding_mask_crop"
            )
        return np.ascontiguousarray(array.transpose(2, 0, 1)[None])


def is_inside(window: tuple[float, float], step: int, num_steps: int) -> bool:
    """True if the whole step is inside a part of the steps, as diffusers counts."""
    start, end = window
    return step / num_steps >= start and (step + 1) / num_steps <= end


def _image_or_copy(image: ImageSource | Array) -> InputImage | Array:
    if isinstance(image, np.ndarray):
        return _checked_copy(image)
    return input_image_from_source(image, "control image")


def _checked_copy(array: Array) -> Array:
    """A copy of the array, which later changes do not affect. Raises `RequestError`."""
    if array.ndim != 3 or not array.size or array.dtype.kind not in "fiub":
        raise RequestError(
            f"control image: got an array {array.dtype} {array.shape}, expected numbers (height, "
            "width, channels)"
        )
    if not ((array >= 0) & (array <= 1)).all():  # false for NaN, too
        raise RequestError(
            f"control image: got an array with values from {array.min()} to {array.max()}, "
            "expected 0 to 1: divide bytes by 255"
        )
    return array.astype(np.float32)
