"""Input images, read from a path or from PIL: upright and in RGB."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sdrt.errors import RequestError
from sdrt.images.framing import Size
from sdrt_engines import Array

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**26  # a small file can decompress to more than fits in memory


@dataclass(frozen=True, eq=False)
class InputImage:
    """An input image, upright and in RGB, and the path that it came from."""

    image: Image
    path: str | None = None

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<InputImage {width}×{height}{f' {self.path}' if self.path else ''}>"

    @property
    def size(self) -> Size:
        return self.image.size


ImageSource: TypeAlias = "InputImage | Image | str | PathLike[str]"


def input_image_from_source(source: ImageSource, role: str) -> InputImage:
    """The image at a path, or a PIL image, rotated as its EXIF says.

    Transparent parts become white, 16 bits per channel become 8. Raises `RequestError`, which
    begins with `role`, for a file that is missing, broken or not an image, and for more than
    `MAX_PIXELS`.
    """
    from PIL import Image

    if isinstance(source, InputImage):
        return source
    if isinstance(source, Image.Image):
        with translate_errors(role, "the image"):
            check_pixel_count(source, role)
            return InputImage(_upright_rgb(source))
    if isinstance(source, str | PathLike):
        path = fspath(source)
        with (
            translate_errors(role, f"'{path}'"),
            Path(path).open("rb") as file,  # Pillow treats an empty path as a file
            Image.open(file) as image,
        ):
            check_pixel_count(image, role)
            return InputImage(_upright_rgb(image), path)
    raise RequestError(
        f"{role}: got an object of type {type(source).__name__}, expected a PIL image or the "
        "path of an image"
    )


@contextmanager
def translate_errors(role: str, name: str) -> Iterator[None]:
    """Raises `RequestError` for the errors of Pillow.

    Pillow reads an opened image when its pixels are needed: a caller's image can be broken, too.
    """
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except RequestError:
        raise
    except UnidentifiedImageError as error:
        raise RequestError(
            f"{role}: {name} is not an image that Pillow can read, or it is broken"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RequestError(f"{role}: {name} is too large: {_limit()}") from error
    except Exception as error:  # Pillow reports broken files in a dozen ways
        reason = getattr(error, "strerror", None)  # of the system: missing, a folder, not allowed
        advice = "give the path of an image" if reason else "give an image that is not damaged"
        raise RequestError(f"{role}: {name} cannot be read: {reason or error}: {advice}") from error


def check_pixel_count(image: Image, role: str) -> None:
    """Raises `RequestError` for more than `MAX_PIXELS` or no pixels."""
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise RequestError(f"{role}: got {width}×{height} pixels: {_limit()}")
    if not width * height:
        raise RequestError(f"{role}: got {width}×{height} pixels, expected at least one")


def _limit() -> str:
    return f"expected {MAX_PIXELS / 1e6:.0f} megapixels at most: reduce its size"


def _upright_rgb(image: Image) -> Image:
    from PIL import Image as Images
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which Pillow would clip
        image = Images.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Images.new("RGBA", image.size, "white")
        image = Images.alpha_composite(ground, image)
    return image.convert("RGB")


def _eight_bits(pixels: Array) -> Array:
    """Grey values as bytes: 16-bit integers divided by 256, floats clipped to 0..255.

    Raises `ValueError` for NaN.
    """
    if pixels.dtype.kind == "f":
        if np.isnan(pixels).any():
            raise ValueError("it holds NaN")
        return np.asarray(np.rint(pixels.clip(0, 255)), np.uint8)
    return np.asarray(pixels.astype(np.int64).clip(0, 65535) >> 8, np.uint8)


def array_from_image(image: Image) -> Array:
    """The image as (1, C, H, W) in 0..1."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
