"""Crops, pads and stretches input images to the size of a request."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

from sdrt.parameters import Resize

if TYPE_CHECKING:
    from PIL.Image import Image

Size: TypeAlias = tuple[int, int]  # width and height in pixels
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom exclusive

MAX_DISPROPORTION = 64  # limits the enlargement of narrow strips


@dataclass(frozen=True)
class Frame:
    """The part of the input images that a request uses, and its size.

    `box` is the part that `padding_mask_crop` works on; None means the whole image.
    """

    size: Size
    resize: Resize | None = None
    box: Box | None = None

    def __call__(self, image: Image) -> Image:
        """The image, cropped and resized."""
        if self.box is not None:
            return fitted(image.crop(self.box), self.size, "pad")
        return fitted(image, self.size, self.resize or "stretch")


def fitted(image: Image, size: Size, resize: Resize) -> Image:
    """The image at another size: cropped, padded with its own edges, or stretched.

    Source: `VaeImageProcessor.resize` of diffusers, where these are "crop", "fill" and "default".
    """
    from PIL import Image as Images

    width, height = size
    if image.size == size:
        return image
    if resize == "stretch":
        return image.resize(size, Images.Resampling.LANCZOS)
    is_wider = width * image.height > height * image.width  # than the image
    if is_wider == (resize == "crop"):
        inner = (width, image.height * width // image.width)
    else:
        inner = (image.width * height // image.height, height)
    resized = image.resize((max(inner[0], 1), max(inner[1], 1)), Images.Resampling.LANCZOS)
    left, top = width // 2 - resized.width // 2, height // 2 - resized.height // 2
    canvas = Images.new(image.mode, size)
    canvas.paste(resized, (left, top))
    if resize == "pad":
        _fill_borders(canvas, resized, left, top)
    return canvas


def _fill_borders(canvas: Image, resized: Image, left: int, top: int) -> None:
    """Fills the empty borders with the edges of the image in the middle."""
    width, height = canvas.size
    if top > 0:
        for edge, y in ((0, 0), (resized.height, top + resized.height)):
            strip = resized.resize((width, top), box=(0, edge, width, edge))
            canvas.paste(strip, (0, y))
    if left > 0:
        for edge, x in ((0, 0), (resized.width, left + resized.width)):
            strip = resized.resize((left, height), box=(edge, 0, edge, height))
            canvas.paste(strip, (x, 0))


def size_text(size: Size) -> str:
    """A size as messages show it."""
    return "{}×{}".format(*size)


def same_proportions(image: Size, size: Size, tolerance: int) -> bool:
    """True if the image can be scaled to within `tolerance` pixels of both sides of `size`."""
    across, down = (wanted / given for wanted, given in zip(size, image, strict=True))
    return abs(across - down) < tolerance / image[0] + tolerance / image[1]


def disproportion(image: Size, size: Size) -> float:
    """The ratio of the two aspect ratios, at least 1."""
    ratio = image[0] / image[1] * size[1] / size[0]
    return max(ratio, 1 / ratio)
