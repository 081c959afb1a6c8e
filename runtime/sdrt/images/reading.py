"""Input pictures: read from anywhere, upright, in RGB, and brought to the size of a request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike, fspath
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from sdrt.errors import RequestError

if TYPE_CHECKING:
    from PIL.Image import Image

Array = npt.NDArray[np.float32]
Resize: TypeAlias = Literal["crop", "pad", "stretch"]
Size: TypeAlias = tuple[int, int]  # width and height in pixels
Box: TypeAlias = tuple[int, int, int, int]  # left, top, right, bottom; right and bottom are outside

MAX_PIXELS = 2**26  # a small file can unfold to more than the memory holds
MAX_DISPROPORTION = 64  # a narrow strip, cut to a square, is enlarged to more than that, too


@dataclass(frozen=True, eq=False)
class Picture:
    """A picture that was given: upright, in RGB, and the path that it came from."""

    image: Image
    path: str | None = None

    def __repr__(self) -> str:
        width, height = self.image.size
        return f"<Picture {width}×{height}{f' {self.path}' if self.path else ''}>"

    @property
    def size(self) -> Size:
        return self.image.size


PictureSource: TypeAlias = "Picture | Image | str | PathLike[str]"


def picture_from_source(source: PictureSource, role: str) -> Picture:
    """The picture at a path, or a PIL image, turned as its EXIF says.

    What is transparent lies on white, 16 bits a channel become 8. Raises ``RequestError``, which
    begins with ``role``, for what is missing, broken, no picture, or has over ``MAX_PIXELS``.
    """
    from PIL import Image

    if isinstance(source, Picture):
        return source
    if isinstance(source, Image.Image):
        with _told(role, "the image"):
            return Picture(_upright_rgb(_modest(source, role)))
    if isinstance(source, str | PathLike):
        path = fspath(source)
        with (
            _told(role, f"'{path}'"),
            Path(path).open("rb") as file,  # Pillow takes an empty path for a file
            Image.open(file) as image,
        ):
            return Picture(_upright_rgb(_modest(image, role)), path)
    raise RequestError(
        f"{role}: got a {type(source).__name__}, expected a PIL image or the path of a picture"
    )


@contextmanager
def _told(role: str, name: str) -> Iterator[None]:
    """Pillow's errors as ours. An opened image is read only when its pixels are needed, so one that
    a caller gives can be broken, too."""
    from PIL import Image, UnidentifiedImageError

    try:
        yield
    except RequestError:
        raise
    except UnidentifiedImageError as error:
        raise RequestError(
            f"{role}: {name} is no picture that Pillow reads, or a broken one"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise RequestError(f"{role}: {name} is too large: {_limit()}") from error
    except Exception as error:  # Pillow tells broken files in a dozen ways
        reason = getattr(error, "strerror", None)  # the system's: missing, a folder, not allowed
        advice = "name a picture's file" if reason else "give a picture that is whole"
        raise RequestError(f"{role}: {name} cannot be read: {reason or error}: {advice}") from error


def _modest(image: Image, role: str) -> Image:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise RequestError(f"{role}: got {width}×{height} pixels: {_limit()}")
    if not width * height:
        raise RequestError(f"{role}: got {width}×{height} pixels, expected at least one")
    return image


def _limit() -> str:
    return f"expected {MAX_PIXELS / 1e6:.0f} megapixels at most; make it smaller"


def _upright_rgb(image: Image) -> Image:
    from PIL import Image as Images
    from PIL import ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):  # more than 8 bits, which Pillow would cut off
        image = Images.fromarray(_eight_bits(np.asarray(image)))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        ground = Images.new("RGBA", image.size, "white")
        image = Images.alpha_composite(ground, image)
    return image.convert("RGB")


def _eight_bits(pixels: npt.NDArray[Any]) -> npt.NDArray[np.uint8]:
    """Grey of 16 bits in whole numbers, or of 0..255 in floats. ValueError where it holds NaN."""
    if pixels.dtype.kind == "f":
        if np.isnan(pixels).any():
            raise ValueError("it holds NaN")
        return np.asarray(np.rint(pixels.clip(0, 255)), np.uint8)
    return np.asarray(pixels.astype(np.int64).clip(0, 65535) >> 8, np.uint8)


@dataclass(frozen=True)
class Frame:
    """What part of the input pictures a request draws, and at what size.

    ``box`` is the part that ``padding_mask_crop`` works on; None means all.
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
    """The image at another size: cut to its proportions, padded with its own edges, or stretched.

    Source: ``VaeImageProcessor.resize`` of diffusers, which calls these ways "crop", "fill" and
    "default".
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
    """Spreads the edges of what lies in the middle over the empty borders, left and right or above
    and below."""
    width, height = canvas.size
    if top > 0:
        for edge, y in ((0, 0), (resized.height, top + resized.height)):
            strip = resized.resize((width, top), box=(0, edge, width, edge))
            canvas.paste(strip, (0, y))
    if left > 0:
        for edge, x in ((0, 0), (resized.width, left + resized.width)):
            strip = resized.resize((left, height), box=(edge, 0, edge, height))
            canvas.paste(strip, (x, 0))


def same_proportions(picture: Size, size: Size, tolerance: int) -> bool:
    """Whether some enlargement of the picture misses both sides of ``size`` by less than
    ``tolerance`` pixels."""
    across, down = (wanted / given for wanted, given in zip(size, picture, strict=True))
    return abs(across - down) < tolerance / picture[0] + tolerance / picture[1]


def disproportion(picture: Size, size: Size) -> float:
    """How many times narrower or flatter the one is than the other, at least 1."""
    ratio = picture[0] / picture[1] * size[1] / size[0]
    return max(ratio, 1 / ratio)


def array_from_image(image: Image) -> Array:
    """(1, C, H, W) in 0..1."""
    pixels = np.asarray(image, dtype=np.float32) / np.float32(255)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(pixels.transpose(2, 0, 1)[None])
