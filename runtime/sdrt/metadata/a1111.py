"""The text that AUTOMATIC1111's web UI keeps in a picture, and that many other programs read.

    a red circle
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 512x512, Model: "sd: 1, 5"

The format is what that program's `create_infotext` writes and `parse_generation_parameters` reads;
here it is made from, and read into, parameters with diffusers' names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import PurePath
from typing import Any

from sdrt.errors import RequestError
from sdrt.samplers.schedulers import SHORT_NAMES

NEGATIVE = "Negative prompt:"
FIELD = re.compile(r'\s*(\w[\w \-/]+):\s*("(?:\\.|[^\\"])+"|[^,]*)(?:,|$)')
MIN_FIELDS = 3  # a last line with fewer belongs to the prompt

SAMPLERS = {
    "euler": "Euler",
    "euler_a": "Euler a",
    "heun": "Heun",
    "lms": "LMS",
    "kdpm2": "DPM2",
    "kdpm2_a": "DPM2 a",
    "dpmpp_2m": "DPM++ 2M",
    "dpmpp_2m_sde": "DPM++ 2M SDE",
    "dpmpp_3m_sde": "DPM++ 3M SDE",
    "ddim": "DDIM",
    "ddpm": "DDPM",
    "pndm": "PLMS",
    "unipc": "UniPC",
    "deis": "DEIS",
    "lcm": "LCM",
    "tcd": "TCD",
}
SCHEDULES = {"_karras": "Karras", "_exponential": "Exponential", "_beta": "Beta"}
# What "Schedule type: Automatic" means there; a text without a schedule type is older: none.
AUTOMATIC = {
    "DPM++ 2M": "Karras",
    "DPM++ 2M SDE": "Exponential",
    "DPM++ 3M SDE": "Exponential",
    "DPM2": "Karras",
    "DPM2 a": "Karras",
}


def text_from_parameters(parameters: Mapping[str, Any]) -> str:
    """The text for parameters with diffusers' names; what it has no word for is left out."""
    given = {name: value for name, value in parameters.items() if value is not None}
    has_size = "width" in given and "height" in given
    fields = {
        "Steps": given.get("num_inference_steps"),
        "Sampler": sampler_name(given["scheduler"]) if "scheduler" in given else None,
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
        lines.append(f"{NEGATIVE} {given['negative_prompt']}")
    lines.append(", ".join(f"{name}: {quoted(v)}" for name, v in fields.items() if v is not None))
    return "\n".join(lines)


def parameters_from_text(text: str) -> dict[str, Any]:
    """Parameters with diffusers' names; a sampler that has no short name here keeps its own.

    Raises RequestError for a field whose value is not of its kind.
    """
    *lines, last = text.strip().split("\n")
    pairs = FIELD.findall(last)
    if len(pairs) < MIN_FIELDS:
        lines, pairs = [*lines, last], []
    prompt, negative = split_prompts([line.strip() for line in lines])
    fields = {name.strip(): unquoted(value.strip()) for name, value in pairs}

    parameters: dict[str, Any] = {"prompt": prompt, "negative_prompt": negative}
    for field, name, kind in (
        ("Steps", "num_inference_steps", int),
        ("CFG scale", "guidance_scale", float),
        ("Seed", "seed", int),
        ("Denoising strength", "strength", float),
        ("Model", "model", str),
    ):
        if field in fields:
            parameters[name] = value_of(field, fields[field], kind)
    if "Size" in fields:
        parameters["width"], parameters["height"] = size_of(fields["Size"])
    if "Sampler" in fields:
        parameters["scheduler"] = short_name(fields["Sampler"], fields.get("Schedule type"))
    if "Clip skip" in fields:
        parameters["clip_skip"] = value_of("Clip skip", fields["Clip skip"], int) - 1
    return parameters


def split_prompts(lines: list[str]) -> tuple[str, str]:
    """Prompt and negative prompt, each of any number of lines."""
    for number, line in enumerate(lines):
        if line.startswith(NEGATIVE):
            negative = [line.removeprefix(NEGATIVE).strip(), *lines[number + 1 :]]
            return "\n".join(lines[:number]), "\n".join(negative)
    return "\n".join(lines), ""


def sampler_name(scheduler: str) -> str:
    """ "DPM++ 2M Karras" for "dpmpp_2m_karras"; any other name, a diffusers class say, as it is."""
    stem, suffix = split_suffix(scheduler)
    for name, sampler in SAMPLERS.items():
        if stem in SHORT_NAMES and SHORT_NAMES[stem] == SHORT_NAMES.get(
            name
        ):  # stem may be an alias
            return f"{sampler} {SCHEDULES[suffix]}" if suffix else sampler
    return scheduler


def split_suffix(scheduler: str) -> tuple[str, str]:
    """A short name without and with the part that names its sigmas."""
    for suffix in SCHEDULES:
        if scheduler.endswith(suffix):
            return scheduler.removesuffix(suffix), suffix
    return scheduler, ""


def short_name(sampler: str, schedule: str | None) -> str:
    """ "dpmpp_2m_karras" for "DPM++ 2M" and "Karras", or for both in one; others as they are."""
    if schedule == "Automatic":
        schedule = AUTOMATIC.get(sampler)
    written = f"{sampler} {schedule}" if schedule else sampler
    for stem, name in SAMPLERS.items():
        for suffix, sigmas in {"": "", **SCHEDULES}.items():
            if written.lower() == f"{name} {sigmas}".strip().lower():
                return stem + suffix
    return written


def value_of(field: str, text: str, kind: Callable[[str], Any]) -> Any:
    """A field's value. Raises RequestError where it is no number and should be one."""
    try:
        return kind(text)
    except ValueError as error:
        raise RequestError(
            f"the picture's text says '{field}: {text}', expected a number"
        ) from error


def size_of(text: str) -> tuple[int, int]:
    """Width and height from "512x768". Raises RequestError."""
    match = re.fullmatch(r"(\d+)x(\d+)", text)
    if match is None:
        raise RequestError(f"the picture's text says 'Size: {text}', expected one like 512x512")
    return int(match[1]), int(match[2])


def quoted(value: object) -> str:
    """A value as the text holds it: as a JSON string where it has commas, colons or lines in it."""
    text = str(value)
    return json.dumps(text, ensure_ascii=False) if re.search(r"[,:\n\"]", text) else text


def unquoted(text: str) -> str:
    """The inverse of `quoted`; text with a stray quote stays as it is."""
    if not (len(text) > 1 and text.startswith('"') and text.endswith('"')):
        return text
    try:
        return str(json.loads(text))
    except ValueError:
        return text
