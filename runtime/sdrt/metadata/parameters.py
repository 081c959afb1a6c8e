"""The parameters that an image records: enough to generate it again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from sdrt.bundle.manifest import Merged
from sdrt.control import Control
from sdrt.errors import RequestError, quoted
from sdrt.images.reading import InputImage
from sdrt.metadata.paths import HASHES, MERGED
from sdrt.parameters import PARAMETER
from sdrt.request import Request


def parameters_of_images(
    request: Request,
    seeds: tuple[int, ...],
    *,
    bundle: str,
    refiner: str | None,
    scheduler: str,
    merged: Sequence[Merged] = (),
) -> tuple[dict[str, Any], ...]:
    """The parameters of each image, enough to generate it again alone. Paths are absolute.

    `bundle` and `refiner` are their paths or "demo", `scheduler` is the name of the scheduler that
    runs, `merged` are the bundle's LoRAs and embeddings.
    """
    common = {name: _plain(getattr(request, name)) for name in PARAMETER} | {
        "num_images_per_prompt": 1,
        "scheduler": scheduler,
        "bundle": bundle,
        "refiner": refiner,
        MERGED: [asdict(each) for each in merged] or None,
        HASHES: dict(_hashes(request)) or None,
    }
    return tuple(
        _without_none(common | _texts_of(request, index) | {"seed": seed})
        for index, seed in enumerate(seeds)
    )


def _texts_of(request: Request, index: int) -> dict[str, str | None]:
    """The texts of one image, None for those that were not given."""
    texts = {
        "prompt": request.prompts,
        "prompt_2": request.prompts_2,
        "negative_prompt": request.negative_prompts,
        "negative_prompt_2": request.negative_prompts_2,
    }
    return {
        name: None if getattr(request, name) is None else of_images[index]
        for name, of_images in texts.items()
    }


def input_images(request: Request) -> Iterator[InputImage]:
    """The image, the mask and the control images of a request."""
    controls = (control.input_image for control in request.controls.values())
    for image in (request.input_image, request.mask, *controls):
        if image is not None:
            yield image


def _hashes(request: Request) -> Iterator[tuple[str, str]]:
    for image in input_images(request):
        if image.path is not None and image.sha256 is not None:
            yield absolute(image.path), image.sha256


def absolute(path: str) -> str:
    """The path as it is recorded: absolute, without links."""
    return str(Path(path).resolve())


def _plain(value: Any) -> Any:
    """A value of a request in a form that JSON can hold."""
    if isinstance(value, InputImage):
        return value.path and absolute(value.path)
    if isinstance(value, Mapping):
        return {name: json_from_control(control) for name, control in value.items()} or None
    return None if value is False else value


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def recorded_hashes(recorded: Mapping[str, Any]) -> dict[str, str]:
    """The sha256 of each input in a PNG, by path. Raises `RequestError`."""
    hashes = recorded.get(HASHES, {})
    if not isinstance(hashes, dict) or not all(isinstance(sha, str) for sha in hashes.values()):
        raise RequestError(
            f"{HASHES}: the PNG says {quoted(hashes)}, expected the sha256 of each input by "
            "its path: it was changed, or written by a later sdrt"
        )
    return hashes


@dataclass(frozen=True)
class RecordedMerge:
    """A LoRA or an embedding in a PNG. `scale` is None if that is not known, as in A1111's text."""

    kind: str
    name: str
    short_hash: str
    scale: float | None = None

    def is_same(self, other: RecordedMerge) -> bool:
        """True for the same file with the same scale, as far as that is known."""
        return (self.kind, self.short_hash) == (other.kind, other.short_hash) and (
            self.scale == other.scale or None in (self.scale, other.scale)
        )


def recorded_merged(recorded: Mapping[str, Any]) -> tuple[RecordedMerge, ...]:
    """The LoRAs and embeddings in a PNG. Raises `RequestError`."""
    merged = recorded.get(MERGED, [])
    try:
        return tuple(
            RecordedMerge(each["kind"], each["name"], each["short_hash"], each.get("scale"))
            for each in merged
        )
    except (AttributeError, KeyError, TypeError) as error:
        raise RequestError(
            f"{MERGED}: the PNG says {quoted(merged)}, expected the kind, name and short_hash of "
            "each LoRA and embedding: it was changed, or written by a later sdrt"
        ) from error


def recorded_controls(recorded: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The controls in a PNG, which any program may have written. Raises `RequestError`."""
    controls = recorded.get("control", {})
    known = [field.name for field in fields(Control)]
    if not isinstance(controls, dict) or not all(
        isinstance(control, dict) and control.keys() <= set(known) for control in controls.values()
    ):
        raise RequestError(
            f"control: the PNG says {quoted(controls)}, expected for each ControlNet some of "
            f"{', '.join(known)}: it was changed, or written by a later sdrt"
        )
    return {name: dict(control) for name, control in controls.items()}


def json_from_control(control: Control) -> dict[str, Any]:
    """The fields of a control; its image as a path, left out if it has none."""
    values = {
        "image": control.input_image and control.input_image.path,
        "scale": control.scale,
        "start": control.start,
        "end": control.end,
        "annotate": control.annotate,
    }
    if values["image"] is not None:
        values["image"] = absolute(str(values["image"]))
    return {name: value for name, value in values.items() if value is not None}
