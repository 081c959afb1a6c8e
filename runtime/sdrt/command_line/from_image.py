"""`sdrt run --from-image`: the parameters of a PNG, and what will not be as it was."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from sdrt.bundle.manifest import Merged
from sdrt.errors import RequestError, quoted
from sdrt.metadata.parameters import (
    RecordedMerge,
    absolute,
    input_images,
    recorded_hashes,
    recorded_merged,
)
from sdrt.metadata.paths import HASHES, MERGED, absolute_paths
from sdrt.metadata.png import read_record
from sdrt.metadata.record import Record
from sdrt.notes import Note
from sdrt.parameters import PARAMETER
from sdrt.request import Request

_OTHER_FIELDS = (
    "bundle",
    "refiner",
    "model",
    "version",
    HASHES,
    MERGED,
)  # which do not change pixels by themselves
_OF_IMAGES = ("strength", "mask_image", "padding_mask_crop")  # which need the image


def record_of(path: Path, given: Mapping[str, Any]) -> Record:
    """The parameters of a PNG, with absolute paths, and notes. Raises `RequestError`.

    `given` are the options, which replace parameters.
    """
    record = read_record(path)
    parameters = absolute_paths(record.parameters, path.resolve().parent)
    for name in ("bundle", "refiner"):
        if name not in given:
            _check_bundle(name, parameters)
    if "speed" in given:  # which chooses them again
        for name in ("forecast", "guidance_interval"):
            parameters.pop(name, None)
    if given.get("vae_tiling") is False:
        parameters.pop("vae_tile_size", None)
    notes = [*record.notes, *_unknown(parameters)]
    if "strength" in parameters and "image" not in {*parameters, *given}:
        notes.append(
            Note(
                "image_unnamed",
                "image",
                "the original has a strength, so it may have been made from another image, which "
                "it does not name: give it with --image, or the new image starts from noise",
            )
        )
        for name in _OF_IMAGES:
            parameters.pop(name, None)
    if "refiner_start" in parameters and "refiner" not in {*parameters, *given}:
        notes.append(
            Note(
                "refiner_unnamed",
                "refiner_start",
                "the original was finished by a refiner, whose path is unknown: give it with "
                "--refiner, or the image will differ",
            )
        )
        parameters.pop("refiner_start")
    return Record(parameters, tuple(notes))


def notes_on_changed_files(request: Request, record: Record) -> Iterator[Note]:
    """Notes on inputs that are at their old paths but have changed."""
    hashes = {absolute(path): sha for path, sha in recorded_hashes(record.parameters).items()}
    for image in input_images(request):
        if (
            image.path is not None
            and hashes.get(absolute(image.path), image.sha256) != image.sha256
        ):
            yield Note(
                "input_changed",
                None,
                f"'{image.path}' has changed since the original was made: the image will differ",
            )


def notes_on_merged(request: Request, record: Record, merged: Sequence[Merged]) -> Iterator[Note]:
    """Notes on LoRAs, and embeddings in the prompts, that only the original or only the bundle has;
    `merged` are the bundle's."""
    original = recorded_merged(record.parameters)
    bundle = [RecordedMerge(each.kind, each.name, each.short_hash, each.scale) for each in merged]
    if only := _titles_without(bundle, original, request):
        yield Note(
            "merged_missing",
            None,
            f"the original was made with {only}, the bundle was exported without: the image will "
            "differ",
        )
    if only := _titles_without(original, bundle, request):
        yield Note(
            "merged_further",
            None,
            f"the bundle was exported with {only}, the original was made without: the image will "
            "differ",
        )


def _titles_without(
    others: Sequence[RecordedMerge], these: Sequence[RecordedMerge], request: Request
) -> str:
    """Those of `these` that count for the request and are not among the others."""
    return ", ".join(
        _title_of(each)
        for each in these
        if _counts(each, request) and not any(map(each.is_same, others))
    )


def _counts(each: RecordedMerge, request: Request) -> bool:
    """True for LoRAs, and for embeddings that a prompt contains."""
    prompts = (
        *(*request.prompts, *request.negative_prompts),
        *(*request.prompts_2, *request.negative_prompts_2),
    )
    name = str(each.name).casefold()
    return each.kind == "lora" or any(name in text.casefold() for text in prompts if text)


def _title_of(each: RecordedMerge) -> str:
    if each.kind != "lora":
        return f"the embedding {quoted(each.name)}"
    scale = "" if each.scale is None else f" (scale {each.scale})"
    return f"the LoRA {quoted(each.name)}{scale}"


def _unknown(parameters: Mapping[str, Any]) -> Iterator[Note]:
    unknown = [name for name in parameters if name not in (*PARAMETER, *_OTHER_FIELDS)]
    if unknown:
        names = ", ".join(ascii(name)[1:-1] for name in unknown[:10])
        yield Note(
            "parameters_unknown",
            None,
            f"the original was made with {names}, which this version does not know: the image "
            "will differ",
        )


def _check_bundle(name: str, parameters: Mapping[str, Any]) -> None:
    """RequestError for a bundle that cannot be a path. Any program may have written it."""
    bundle = parameters.get(name, "")
    try:
        os.lstat(bundle)
    except (TypeError, ValueError, OSError) as error:
        if not isinstance(error, OSError) or error.errno == errno.ENAMETOOLONG:
            raise RequestError(
                f"{name}: the PNG says {quoted(bundle)}, expected the path of a bundle: give "
                f"{_GIVEN[name]}"
            ) from error


_GIVEN = {
    "bundle": "the bundle, too: sdrt run BUNDLE --from-image PNG",
    "refiner": "the refiner, too: sdrt run --from-image PNG --refiner BUNDLE",
}
