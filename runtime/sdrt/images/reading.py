"""Input images, read from a path or from PIL: upright and in RGB."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BufferedReader
from os import PathLike, fspath
from typing import TYPE_CHECKING, TypeAlias

import numpy as np

from sdrt.errors import RequestError
from sdrt.images.framing import Size
from sdrt.images.numbers import bytes_from_numbers
from sdrt_engines import Array
from sdrt_engines.regular_file import open_regular

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 2**26  # a small file can decompress to more than fits in memory
_LONG = 300  # characters of a path


@dataclass(frozen=True, eq=False)
class InputImage:
    """An input image, upright and in RGB or, for a mask, in grey.

    `path` and `sha256` are those of its file, if it came from one.
    """

    image: Image
    path: str | None = None
    sha256: str | None = None

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<InputImage {width}×{height}{f' {self.path}' if self.path else ''}>"

    @property
    def size(self) -> Size:
        return self.image.size


ImageSource: TypeAlias = "InputImage | Image | str | PathLike[str]"


def input_image_from_source(source: ImageSource, role: str) -> InputImage:
    """The image at a path, or a PIL image, rotated as its EXIF says.

    Transparent parts become white, more than 8 bits per channel become 8. Raises `RequestError`,
    which begins with `role`, for a file that is missing, broken or not an image, for numbers of an
    unknown range, and for more than `MAX_PIXELS`.
    """
    return read_image(source, role, _rgb)


def read_image(source: ImageSource, role: str, convert: Callable[[Image], Image]) -> InputImage:
    """The same with another conversion of the upright image."""
    from PIL import Image

    if isinstance(source, InputImage):
        return source
    if isinstance(source, Image.Image):
        with translate_errors(role, "the image"):
            return InputImage(_converted(source, role, convert))
    if isinstance(source, str | PathLike):
        path = fspath(source)
        with translate_errors(role, _shown(path)), open_regular(path) as file:
            with Image.open(file) as image:
                converted = _converted(image, role, convert)
            return InputImage(converted, path, _sha256_of(file))
    raise RequestError(
        f"{role}: got an object of type {type(source).__name__}, expected a PIL image or the "
        "path of an image"
    )


def _converted(image: Image, role: str, convert: Callable[[Image], Image]) -> Image:
    check_pixel_count(image, role)
    return convert(_upright(image, role))


def _shown(path: str) -> str:
    """A path in a message; those of strangers may be endless."""
    return f"'{path}'" if len(path) <= _LONG else f"'{path[:_LONG]}…'"


def _sha256_of(file: BufferedReader) -> str:
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


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
        reason = getattr(error, "strerror", None)  # of the system: missing, a FIFO, not allowed
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


def _upright(image: Image, role: str) -> Image:
    """The image rotated as its EXIF says, with at most 8 bits per channel."""
    from PIL import Image as Images
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which Pillow would clip
        image = Images.fromarray(bytes_from_numbers(np.asarray(image), role))
    return image


def _rgb(image: Image) -> Image:
    from PIL import Image as Images

    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Images.new("RGBA", image.size, "white")
        image = Images.alpha_composite(ground, image)
    return image.convert("RGB")


def array_from_image(image: Image) -> Array:
    """The image as (1, C, H, W) in 0..1."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
