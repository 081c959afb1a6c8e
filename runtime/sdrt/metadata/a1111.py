"""The text that AUTOMATIC1111's web UI writes into images, and that many other programs read.

    a red circle
    Negative prompt: blurry
    Steps: 20, Sampler: Euler a, CFG scale: 7.5, Seed: 7, Size: 512x512, Model: "sd: 1, 5"

The format is the one that this program's `create_infotext` writes and
`parse_generation_parameters` reads. Here it is converted from and to diffusers' parameters.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any

from sdrt.errors import RequestError
from sdrt.kinds import Between, OneOf, Pair, Texts, Window
from sdrt.metadata.infotext import (
    MERGED_FIELDS,
    NEGATIVE,
    OF_SDXL,
    OF_SPEED,
    SYNTAX,
    infotext_from_text,
    quoted,
)
from sdrt.metadata.infotext_notes import has_second_pass, notes_on_rest, notes_on_second_pass
from sdrt.metadata.paths import MERGED
from sdrt.metadata.record import Record
from sdrt.parameters import PARAMETERS, SIZE, Parameter
from sdrt.scheduler_names import SHORT_NAMES, SUFFIXES, find_name, split_suffix

_ORDER = (
    *("Steps", "Sampler", "CFG scale", "Seed", "Size", "Model", "Denoising strength", "Clip skip"),
    *OF_SDXL,
    *OF_SPEED,
    *(SYNTAX, "Refiner", "Refiner switch at", *MERGED_FIELDS, "Version"),
)

# The meaning of "Schedule type: Automatic". Older texts have no schedule type: no such sigmas.
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
    """The text for parameters with diffusers' names, without those that have no field there."""
    given = {name: value for name, value in parameters.items() if value is not None}
    fields = {
        parameter.a1111: _written(parameter, given[parameter.name])
        for parameter in PARAMETERS
        if parameter.a1111 and parameter.name in given
    }
    fields["Size"] = "{width}x{height}".format(**given) if {"width", "height"} <= {*given} else None
    fields["Model"] = given.get("model") or PurePath(given.get("bundle", "")).name or None
    fields["Refiner"] = PurePath(given.get("refiner", "")).name or None
    fields |= {name: _hashes(given.get(MERGED, ()), kind) for name, kind in MERGED_FIELDS.items()}
    fields["Version"] = given.get("version")
    lines = [str(given.get("prompt", ""))]
    if given.get("negative_prompt"):
        lines.append(f"{NEGATIVE} {given['negative_prompt']}")
    written = {name: fields[name] for name in _ORDER if fields.get(name) is not None}
    lines.append(", ".join(f"{name}: {quoted(value)}" for name, value in written.items()))
    return "\n".join(lines)


def record_from_text(text: str) -> Record:
    """Parameters with diffusers' names; a sampler without a short name here keeps its own.

    Raises `RequestError` for a field with a value of another kind.
    """
    read = infotext_from_text(text)
    fields = read.fields
    parameters: dict[str, Any] = {"prompt": read.prompt, "prompt_syntax": "a1111"}
    if read.negative_prompt:  # A1111, too, gives SDXL zeros for an empty one
        parameters["negative_prompt"] = read.negative_prompt
    for parameter in PARAMETERS:
        if parameter.a1111 in fields:
            parameters[parameter.name] = _read(parameter, fields)
    if "Size" in fields:
        parameters["width"], parameters["height"] = _size_of(fields["Size"])
    if "Model" in fields:
        parameters["model"] = fields["Model"]
    if merged := list(_merged(fields)):
        parameters[MERGED] = merged
    if has_second_pass(read) or not parameters.get("strength"):
        parameters.pop("strength", None)  # of the second pass, or it has no meaning
    return Record(parameters, (*notes_on_second_pass(read), *notes_on_rest(read)))


def _sampler_name(scheduler: str) -> str:
    """ "DPM++ 2M Karras" for "dpmpp_2m_karras"; a name that A1111 does not have stays as it is.

    Of a class only a name that is its only one: others say more than the class does.
    """
    stem, suffix = split_suffix(find_name(scheduler) or scheduler)
    of_class = [name for name, short in SHORT_NAMES.items() if short.scheduler == stem]
    stem = of_class[0] if len(of_class) == 1 else stem
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


def _written(parameter: Parameter, value: Any) -> Any:
    """A parameter's value as A1111 writes it; None if A1111 leaves it out."""
    if parameter.name == "scheduler":
        return _sampler_name(value)
    if parameter.name == "clip_skip":  # 1 is the last layer in A1111, but skips one in diffusers
        return value + 1 if value else None
    if parameter.name == "prompt_syntax":  # A1111's goes without saying
        return None if value == "a1111" else value
    if isinstance(parameter.kind, Pair):
        first, second = value
        return f"{second}x{first}" if parameter.kind == SIZE else f"{first},{second}"
    if isinstance(parameter.kind, Window):
        return "{}:{}".format(*value)
    return value


def _hashes(merged: Sequence[Mapping[str, Any]], kind: str) -> str | None:
    """ "style: 0123456789ab, lcm: 3456789abcde": what was merged, without the signs in names that
    separate them."""
    names = {
        re.sub("[:,]", "", each["name"]): each["short_hash"]
        for each in merged
        if each["kind"] == kind
    }
    return ", ".join(f"{name}: {value}" for name, value in names.items()) or None


def _merged(fields: Mapping[str, str]) -> Iterator[dict[str, str]]:
    """The inverse of `_hashes`, for all kinds. The scales of LoRAs are in A1111's prompts."""
    for field, kind in MERGED_FIELDS.items():
        for text in filter(str.strip, fields.get(field, "").split(",")):
            name, _, short_hash = text.rpartition(":")
            yield {"kind": kind, "name": name.strip(), "short_hash": short_hash.strip()}


def _read(parameter: Parameter, fields: Mapping[str, str]) -> Any:
    """The inverse of `_written`. Raises `RequestError` if the value is not of the right kind."""
    assert parameter.a1111 is not None, "only parameters with a name there are read"
    text = fields[parameter.a1111]
    if parameter.name == "scheduler":
        return _short_name(text, fields.get("Schedule type"))
    if isinstance(parameter.kind, Texts | OneOf):
        return text
    if isinstance(parameter.kind, Pair):
        return _pair_of(parameter, text)
    if isinstance(parameter.kind, Window):
        return _window_of(parameter, text)
    is_whole = isinstance(parameter.kind, Between) and parameter.kind.whole
    try:
        number = _whole(text) if is_whole else float(text)
    except ValueError as error:
        message = f"the image's text says {_shown(parameter.a1111, text)}, expected a number"
        raise RequestError(message) from error
    if parameter.name == "clip_skip":
        return max(int(abs(number)) - 1, 0)  # ComfyUI's -2 is A1111's 2; both 0 and 1 skip nothing
    return number


def _whole(text: str) -> int:
    """The integer in "20" or, as some programs write it, "20.0"."""
    return int(re.sub(r"\.0+$", "", text))


def _shown(name: str, text: str) -> str:
    """A field as messages quote it: short, without control characters."""
    return repr(f"{name}: {text[:40]}")


def _pair_of(parameter: Parameter, text: str) -> tuple[int, int]:
    """The pair in a field of sdrt's own. Raises `RequestError`."""
    is_size = parameter.kind == SIZE
    match = re.fullmatch(r"(\d{1,9})x(\d{1,9})" if is_size else r"(\d{1,9}),(\d{1,9})", text)
    if match is None:
        shown, example = _shown(parameter.a1111 or "", text), "768x512" if is_size else "0,128"
        raise RequestError(f"the image's text says {shown}, expected one like {example}")
    first, second = int(match[1]), int(match[2])
    return (second, first) if is_size else (first, second)


def _window_of(parameter: Parameter, text: str) -> tuple[float, float]:
    """The start and the end in a field of sdrt's own. Raises `RequestError`."""
    start, _, end = text.partition(":")
    try:
        return float(start), float(end)
    except ValueError as error:
        shown = _shown(parameter.a1111 or "", text)
        raise RequestError(f"the image's text says {shown}, expected one like 0.2:0.8") from error


def _size_of(text: str) -> tuple[int, int]:
    """Width and height from "512x768". Raises `RequestError`."""
    match = re.fullmatch(r"(\d{1,9})\s*[xX×]\s*(\d{1,9})", text)
    if match is None:
        message = f"the image's text says {_shown('Size', text)}, expected one like 512x512"
        raise RequestError(message)
    return int(match[1]), int(match[2])
