"""The parameters that an image records: enough to generate it again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from sdrt.control import Control
from sdrt.errors import RequestError, quoted
from sdrt.images.reading import InputImage
from sdrt.parameters import PARAMETER
from sdrt.result import Result


def parameters_from_result(result: Result, bundle: str, scheduler: str) -> list[dict[str, Any]]:
    """The parameters of each image, enough to generate it again alone.

    `scheduler` is the name of the scheduler that ran.
    """
    request = result.request
    model = bundle if bundle == "demo" else str(Path(bundle).resolve())
    return [
        _without_none(
            {name: _plain(getattr(request, name)) for name in PARAMETER}
            | {
                "prompt": prompt,
                "negative_prompt": negative,
                "num_images_per_prompt": 1,
                "seed": seed,
                "scheduler": scheduler,
                "bundle": model,
            }
        )
        for prompt, negative, seed in zip(
            request.prompts, request.negative_prompts, result.seeds, strict=True
        )
    ]


def _plain(value: Any) -> Any:
    """A value of a request in a form that JSON can hold."""
    if isinstance(value, InputImage):
        return value.path and str(Path(value.path).resolve())
    if isinstance(value, Mapping):
        return {name: json_from_control(control) for name, control in value.items()} or None
    return None if value is False else value


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


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
        values["image"] = str(Path(str(values["image"])).resolve())
    return {name: value for name, value in values.items() if value is not None}
