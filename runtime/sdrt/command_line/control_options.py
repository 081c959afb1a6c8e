"""ControlNets on the command line."""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Mapping
from typing import Any

from sdrt.control import Control
from sdrt.errors import UsageError, did_you_mean, quoted
from sdrt.metadata.parameters import recorded_controls


def controls_from_options(
    options: argparse.Namespace, recorded: Mapping[str, Any]
) -> dict[str, Control]:
    """The controls in a PNG, changed and extended by the options."""
    values = recorded_controls(recorded)
    for name, path in _pairs("--control", "IMAGE", options.control):
        values.setdefault(name, {})["image"] = path
    for option, form, texts, fields_from_text in (
        ("--control-scale", "X", options.control_scale, _scale),
        ("--control-window", "START:END", options.control_window, _window),
        ("--annotate", "ANNOTATOR", options.annotate, _annotator),
    ):
        for name, text in _pairs(option, form, texts):
            if name not in values:
                advice = did_you_mean(name, values) if values else "there is no --control"
                raise UsageError(f"{option}: got {name}={text}, {advice}")
            values[name].update(fields_from_text(option, name, text))
    for name, control in values.items():
        if "image" not in control:
            raise UsageError(
                f"control '{name}': the PNG does not name its image: give --control {name}=IMAGE"
            )
    return {name: Control(**control) for name, control in values.items()}


def _pairs(option: str, form: str, texts: Iterable[str] | None) -> list[tuple[str, str]]:
    """Name and value of each `NAME=VALUE`."""
    pairs: list[tuple[str, str]] = []
    for text in texts or ():
        name, equals, value = text.partition("=")
        if not (name and equals and value):
            raise UsageError(f"{option}: got {quoted(text)}, expected NAME={form}")
        if name in (other for other, _ in pairs):
            raise UsageError(f"{option}: '{name}' is given twice: give it once")
        pairs.append((name, value))
    return pairs


def _scale(option: str, name: str, text: str) -> dict[str, Any]:
    return {"scale": _number(option, name, text)}


def _window(option: str, name: str, text: str) -> dict[str, Any]:
    start, colon, end = text.partition(":")
    if not colon:
        raise UsageError(f"{option}: got {name}={text}, expected {name}=START:END, such as 0:0.6")
    return {"start": _number(option, name, start), "end": _number(option, name, end)}


def _annotator(option: str, name: str, text: str) -> dict[str, Any]:
    return {"annotate": text}


def _number(option: str, name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"{option} {name}: got {quoted(text)}, expected a number") from None
