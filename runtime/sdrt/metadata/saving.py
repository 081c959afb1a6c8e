"""Saves the images of a request as PNGs."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from sdrt.errors import RequestError, SdrtError, did_you_mean
from sdrt.metadata.paths import paths_in, relative_paths, without_paths
from sdrt.metadata.png import create_png, save_png

if TYPE_CHECKING:
    from PIL.Image import Image

Metadata: TypeAlias = Literal["full", "no-paths", "none"]
METADATA = ("full", "no-paths", "none")


def output_paths(path: Path, num_images: int) -> tuple[Path, ...]:
    """The path of each image: out.png, or out-1.png, out-2.png, … SdrtError unless it is a PNG."""
    if path.suffix.lower() != ".png":
        raise SdrtError(
            f"{path}: sdrt writes PNGs only, which can record their parameters: name it *.png"
        )
    if num_images == 1:
        return (path,)
    return tuple(path.with_stem(f"{path.stem}-{i + 1}") for i in range(num_images))


def free_paths(path: Path, num_images: int) -> tuple[Path, ...]:
    """The same for the first of out.png, out_2.png, out_3.png, … that replaces no file."""
    return next(
        paths
        for numbered in _numbered(path)
        if not any(map(os.path.lexists, paths := output_paths(numbered, num_images)))
    )


def require_no_input(outputs: Iterable[Path], inputs: Iterable[str | Path]) -> None:
    """SdrtError if an output is the same file as an input, by whatever name."""
    files = {found: path for path in inputs if (found := _identity(path))}
    for output in outputs:
        if (found := _identity(output)) in files:
            assert found is not None, "None is not in it"
            raise SdrtError(
                f"{output}: this is the input '{files[found]}', which would be lost: choose "
                "another name"
            )


def save_images(
    images: Sequence[Image],
    parameters: Sequence[Mapping[str, Any]],
    path: Path,
    metadata: Metadata = "full",
) -> tuple[Path, ...]:
    """Writes the images, and replaces files of these names; returns the paths.

    Raises `SdrtError` if one cannot be written or is an input of the request, `RequestError` for an
    unknown `metadata`.
    """
    if len(images) != len(parameters):
        raise SdrtError(
            f"got {len(parameters)} sets of parameters for {len(images)} images, expected one for "
            "each: save a result as a pipeline gives it"
        )
    paths = output_paths(path, len(images))
    require_no_input(paths, (each for one in parameters for each in paths_in(one)))
    for output, image, one in zip(paths, images, parameters, strict=True):
        save_png(image, output, recorded(one, output, metadata))
    return paths


def save_new_images(
    images: Sequence[Image],
    parameters: Sequence[Mapping[str, Any]],
    paths: Sequence[Path],
    metadata: Metadata,
) -> tuple[Path, ...]:
    """Writes the images at these paths, or where a file has appeared meanwhile at free ones."""
    return tuple(
        next(
            numbered
            for numbered in _numbered(path)
            if create_png(image, numbered, recorded(one, numbered, metadata))
        )
        for path, image, one in zip(paths, images, parameters, strict=True)
    )


def recorded(
    parameters: Mapping[str, Any], path: Path, metadata: Metadata
) -> Mapping[str, Any] | None:
    """The parameters that the image at `path` records; None: nothing."""
    if metadata not in METADATA:
        raise RequestError(f"metadata: got {metadata!r}, {did_you_mean(str(metadata), METADATA)}")
    if metadata == "none":
        return None
    if metadata == "no-paths":
        return without_paths(parameters)
    return relative_paths(parameters, path.resolve().parent)


def _numbered(path: Path) -> Iterator[Path]:
    """out.png, out_2.png, out_3.png, …"""
    yield path
    number = 2
    while True:
        yield path.with_stem(f"{path.stem}_{number}")
        number += 1


def _identity(path: str | Path) -> tuple[int, int] | None:
    try:
        found = Path(path).stat()
    except (OSError, ValueError):  # not there; the message for it comes later
        return None
    return found.st_dev, found.st_ino
