"""The text that AUTOMATIC1111's web UI keeps in an image, and that many other programs read.

    a red circle
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 512x512, Model: "sd: 1, 5"

The format is what that program's `create_infotext` writes and `parse_generation_parameters` reads.
Here it is made from, and read into, parameters with the names of diffusers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from sdrt.errors import RequestError
from sdrt.scheduler_names import SHORT_NAMES, SUFFIXES, find_name, split_suffix

_NEGATIVE = "Negative prompt:"
_FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
_MIN_FIELDS = 3  # a last line with fewer belongs to the prompt
_PARAMETERS: Mapping[str, tuple[str, Callable[[str], Any]]] = {  # the fields that are read as is
    "Steps": ("num_inference_steps", int),
    "CFG scale": ("guidance_scale", float),
    "Seed": ("seed", int),
    "Denoising strength": ("strength", float),
    "Model": ("model", str),
}

# What "Schedule type: Automatic" means there. Older texts have no schedule type: it means none.
_AUTOMATIC = {
    "DPM++ 2M": "Karras",
    "DPM++ 2M SDE": "Exponential",
    "DPM++ 3M SDE": "Exponential",
    "DPM++ 2M SDE Heun": "Exponential",
    "DPM++ SDE": "Karras",
    "DPM++ 2S a": "Karras",
    "Restart": "Karras",
    "DPM2": "Karras",
    "DPM2 a": "Karras",
}


def text_from_parameters(parameters: Mapping[str, Any]) -> str:
    """The text for parameters with the names of diffusers; what has no field there is left out."""
    given = {name: value for name, value in parameters.items() if value is not None}
    has_size = "width" in given and "height" in given
    fields = {
        "Steps": given.get("num_inference_steps"),
        "Sampler": _sampler_name(given["scheduler"]) if "scheduler" in given else None,
        "CFG scale": given.get("guidance_scale"),
        "Seed": given.get("seed"),
        "Size": f"{given['width']}x{given['height']}" if has_size else None,
        "Model": given.get("model") or PurePath(given.get("bundle", "")).name or None,
        "Denoising strength": given.get("strength"),
        # There 1 means the last layer, in diffusers 1 leaves one layer out.
        "Clip skip": given["clip_skip"] + 1 if given.get("clip_skip") else None,
        "Version": given.get("version"),
    }
    lines = [str(given.get("prompt", ""))]
    if given.get("negative_prompt"):
        lines.append(f"{_NEGATIVE} {given['negative_prompt']}")
    lines.append(", ".join(f"{name}: {_quoted(v)}" for name, v in fields.items() if v is not None))
    return "\n".join(lines)


def parameters_from_text(text: str) -> dict[str, Any]:
    """Parameters with the names of diffusers; a sampler that has no short name here keeps its own.

    Raises `RequestError` for a field whose value is of another kind.
    """
    *lines, last = text.strip().split("\n")
    pairs = _FIELD.findall(last)
    if len(pairs) < _MIN_FIELDS:
        lines, pairs = [*lines, last], []
    prompt, negative = _split_prompts([line.strip() for line in lines])
    fields = {name.strip(): _unquoted(value.strip()) for name, value in pairs}

    parameters: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative}
    for field, (name, kind) in _PARAMETERS.items():
        if field in fields:
            parameters[name] = _value_of(field, fields[field], kind)
    if "Size" in fields:
        parameters["width"], parameters["height"] = _size_of(fields["Size"])
    if "Sampler" in fields:
        parameters["scheduler"] = _short_name(fields["Sampler"], fields.get("Schedule type"))
    if "Clip skip" in fields:
        parameters["clip_skip"] = _value_of("Clip skip", fields["Clip skip"], int) - 1
    return parameters


def _split_prompts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt, each of any number of lines."""
    for number, line in enumerate(lines):
        if line.startswith(_NEGATIVE):
            negative = [line.removeprefix(_NEGATIVE).strip(), *lines[number + 1 :]]
            return "\n".join(lines[:number]), "\n".join(negative)
    return "\n".join(lines), ""


def _sampler_name(scheduler: str) -> str:
    """ "DPM++ 2M Karras" for "dpmpp_2m_karras"; a name that A1111 does not have stays as it is."""
    stem, suffix = split_suffix(find_name(scheduler) or scheduler)
    sampler = SHORT_NAMES[stem].a1111 if stem in SHORT_NAMES else None
    if sampler is None:
        return scheduler
    return f"{sampler} {SUFFIXES[suffix].a1111}" if suffix else sampler


def _short_name(sampler: str, schedule: str | None) -> str:
    """ "dpmpp_2m_karras" for "DPM++ 2M" and "Karras", or for both in one; others as they are."""
    if schedule == "Automatic":
        schedule = _AUTOMATIC.get(sampler)
    written = f"{sampler} {schedule}" if schedule else sampler
    return find_name(written) or written


def _value_of(field: str, text: str, kind: Callable[[str], Any]) -> Any:
    """A field's value. Raises `RequestError` if it is not the number that it should be."""
    try:
        return kind(text)
    except ValueError as error:
        raise RequestError(f"the image's text says '{field}: {text}', expected a number") from error


def _size_of(text: str) -> tuple[int, int]:
    """Width and height from "512x768". Raises `RequestError`."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise RequestError(f"the image's text says 'Size: {text}', expected one like 512x512")
    return int(match[1]), int(match[2])


def _quoted(value: object) -> str:
    """A value as the text holds it: a JSON string if it contains commas, colons or line breaks."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n\"]", text) else text


def _unquoted(text: str) -> str:
    """The inverse of `_quoted`; text with a stray quote stays as it is."""
    if not (len(text) > 1 and text.startswith('"') and text.endswith('"')):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text
