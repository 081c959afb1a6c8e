"""PNGs that record how they were made: in A1111's text, and in JSON with all parameters."""

from __future__ import annotations

import json
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdrt.errors import RequestError, SdrtError
from sdrt.files.atomic import appearing_file
from sdrt.metadata.a1111 import parameters_from_text, text_from_parameters

if TYPE_CHECKING:
    from PIL.Image import Image

JSON_KEY = "sdrt"  # all parameters, exactly
TEXT_KEY = "parameters"  # read and written by A1111 and similar programs


def save_png(image: Image, path: str | Path, parameters: Mapping[str, Any]) -> None:
    """Writes a PNG with its parameters, atomically; creates its folder if needed.

    Raises `SdrtError` if it cannot be written.
    """
    content = png_bytes(image, parameters)
    try:
        with appearing_file(path) as draft:
            draft.write_bytes(content)
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise SdrtError(f"cannot write '{path}': {reason}: choose another path") from error


def png_bytes(image: Image, parameters: Mapping[str, Any]) -> bytes:
    """The PNG file of an image, with its parameters."""
    from PIL.PngImagePlugin import PngInfo

    info = PngInfo()
    text = text_from_parameters(parameters)
    info.add_text(TEXT_KEY, text.encode(errors="replace").decode())  # a path may hold any bytes
    info.add_text(JSON_KEY, json.dumps(parameters))
    file = BytesIO()
    image.save(file, format="PNG", pnginfo=info)
    return file.getvalue()


def read_parameters(path: str | Path) -> dict[str, Any]:
    """The parameters in a PNG, with the names of diffusers: from sdrt's JSON, else A1111's text.

    Raises `RequestError` for a file that is not a complete PNG, or that has neither.
    """
    texts = read_texts(Path(path))
    if JSON_KEY in texts:
        return parameters_from_json(texts[JSON_KEY], path)
    if TEXT_KEY in texts:
        return parameters_from_text(texts[TEXT_KEY])
    raise RequestError(
        f"{path} does not say how it was made: it has no '{JSON_KEY}' and no '{TEXT_KEY}' text, "
        "which many websites remove: use the original file, or give the options"
    )


def read_texts(path: Path) -> dict[str, str]:
    """All texts of a PNG, anywhere in the file. Raises `RequestError`."""
    from PIL import Image, UnidentifiedImageError
    from PIL.PngImagePlugin import PngImageFile

    try:
        with Image.open(path, formats=["PNG"]) as image:
            assert isinstance(image, PngImageFile)
            image.load()  # texts may follow the pixels, and only this detects a truncated file
            return dict(image.text)
    except UnidentifiedImageError as error:
        raise RequestError(
            f"{path} is not a PNG, or it is broken: only PNGs record their parameters"
        ) from error
    except Exception as error:  # Pillow reports broken files in a dozen ways
        reason = getattr(error, "strerror", None) or error
        raise RequestError(
            f"{path} cannot be read: {reason}: use the original file if this one is damaged"
        ) from error


def parameters_from_json(text: str, path: str | Path) -> dict[str, Any]:
    """The parameters in sdrt's own text. Raises `RequestError` if they are not a JSON object."""
    try:
        parameters = json.loads(text)
    except ValueError:
        parameters = None
    if not isinstance(parameters, dict):
        raise RequestError(
            f"{path}: its '{JSON_KEY}' text is {text[:40]!r}, expected a JSON object: "
            "it was changed, use the original file"
        )
    return parameters
