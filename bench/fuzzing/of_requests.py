"""Wrong values of every kind: on the command line, in Python, in a `Control`, in a PNG's JSON."""

from __future__ import annotations

import argparse
import dataclasses
import decimal
import fractions
import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import sdrt
from fuzzing.bundles import Place
from fuzzing.outcomes import Case, call, command, judged
from sdrt.command_line.options import parser_of
from sdrt.metadata.png import JSON_KEY, TEXT_KEY
from sdrt.parameters import PARAMETER

COMMANDS = ("run", "inspect", "verify", "build", "export", "doctor", "tune", "bench")
SMALL = {"num_inference_steps": 2, "width": 64, "height": 64, "seed": 7}

TEXTS = (  # values of options
    *("", " ", "0", "1", "-1", "2", "0.5", "1.5", "5.0", "1e3", "1e400", "-0", "+1", " 5 ", "0x10"),
    *("1_000", "½", "٣", "nan", "inf", "-inf", "NaN", "None", "true", "[]", "{}", "9" * 5000),
    *("1,2", "a", "a b", "ä", "日本", "\x1b]0;x\x07", "\ud800", "..", "/", "/dev/null", "--", "-x"),
    *(
        "=",
        "edges=",
        "=x",
        "edges=1",
        "edges=0:1",
        "edges=1:0",
        "edges=canny",
        "x" * 300,
        "%s",
        "\n",
    ),
)


def options_of_the_command_line(place: Place) -> Iterator[Case]:
    """Every option of every command with every text."""
    parser = parser_of(dict.fromkeys(COMMANDS, lambda options: None))
    cases = [case for name in COMMANDS for case in _command_lines(place, parser, name)]
    for words in place.random.sample(cases, min(len(cases), place.times(700))):
        yield judged(_shown(words), command(*words, seconds=30))


def _command_lines(place: Place, parser: argparse.ArgumentParser, name: str) -> Iterator[list[str]]:
    bundle = str(place.toy())
    base = {
        "run": ["run", bundle, "a", "-o", str(place.work / "o.png"), "--target", "cpu"],
        "verify": ["verify", bundle, "--target", "cpu"],
        "build": ["build", str(place.toy_prepared()), "--target", "cpu"],  # the toy has no graphs
        "export": ["export", str(place.work / "none"), "-o", str(place.work / "exported")],
        "tune": ["tune", bundle],
        "bench": ["bench", bundle],
    }.get(name, [name, bundle])
    if name == "run":
        base += ["--steps", "2", "--width", "64", "--height", "64"]
    (commands,) = (action.choices for action in parser._actions if isinstance(action.choices, dict))
    slow = name in ("tune", "bench")  # a right value of theirs measures for minutes
    for action in commands[name]._actions:
        if not action.option_strings or action.nargs == 0 or "-o" in action.option_strings:
            continue
        for text in TEXTS:
            if not (slow and _may_be_right(text)):
                yield [*base, f"{action.option_strings[-1]}={text}"]


def _may_be_right(text: str) -> bool:
    return not any(sign in text for sign in ("\x1b", "nan", "inf", "[]", "9" * 99))


def _shown(words: list[str]) -> str:
    text = f"{words[0]} {words[-1]!r}"
    return text if len(text) < 90 else f"{text[:80]}…"


# --- values in Python

VALUES: tuple[Callable[[], Any], ...] = (  # made for each case: an iterator is used up
    lambda: None,
    lambda: True,
    lambda: False,
    lambda: 0,
    lambda: -1,
    lambda: 1,
    lambda: 5,
    lambda: 64,
    lambda: 10**30,
    lambda: 10**5000,
    lambda: 0.5,
    lambda: 1.0,
    lambda: 2.5,
    lambda: -0.5,
    lambda: 1e300,
    lambda: float("nan"),
    lambda: float("inf"),
    lambda: 1 + 2j,
    lambda: "",
    lambda: "a",
    lambda: "5",
    lambda: "euler",
    lambda: "crop",
    lambda: ["a", "b"],
    lambda: "x" * 5000,
    lambda: "\ud800",
    lambda: "a\0b",
    lambda: b"99",
    lambda: bytearray(b"a"),
    lambda: (),
    list,
    lambda: [1],
    lambda: [1, 2],
    lambda: [0.5, 0.1, 0.0],
    lambda: [999, 500, 1],
    lambda: ["a"],
    lambda: [None],
    lambda: [True],
    lambda: [10**30],
    lambda: [float("nan")],
    lambda: [[1]],
    dict,
    lambda: {"a": 1},
    lambda: {1: 2},
    lambda: {1, 2},
    lambda: (x for x in (3, 2, 1)),
    lambda: iter([]),
    lambda: range(3),
    lambda: object(),
    lambda: int,
    lambda: print,
    lambda: np.int64(3),
    lambda: np.float64(0.5),
    lambda: np.float16(2),
    lambda: np.bool_(True),
    lambda: np.str_("a"),
    lambda: np.zeros(0),
    lambda: np.array([3.0, 1.0]),
    lambda: np.array(3),
    lambda: np.zeros((64, 64, 3)),
    lambda: np.array(["a"]),
    lambda: decimal.Decimal("1.5"),
    lambda: fractions.Fraction(1, 2),
    lambda: Path("none.png"),
    lambda: Path("/"),
    lambda: Image.new("RGB", (64, 64)),
    lambda: Image.new("RGB", (1, 1)),
    lambda: sdrt.Control(Image.new("RGB", (64, 64))),
    lambda: {"edges": Image.new("RGB", (64, 64))},
    lambda: {"edges": None},
    lambda: Image.new("L", (64, 64), 255),
    lambda: Image.new("I;16", (64, 64)),
    lambda: {"edges": 5},
    lambda: {"nothing": Image.new("RGB", (64, 64))},
)


def parameters_in_python(place: Place) -> Iterator[Case]:
    """Every parameter of a request with every value, on a schedule that takes sigmas and others."""
    cases = [
        (name, value, scheduler)
        for name in PARAMETER
        for value in VALUES
        for scheduler in (
            (None,) if name not in ("timesteps", "sigmas") else (None, "euler", "ddim")
        )
    ]
    with sdrt.Pipeline.open(place.toy(), "cpu") as pipe:
        for name, value, scheduler in _sample(place, cases, 1700):
            given = SMALL | ({"scheduler": scheduler} if scheduler else {})
            title = f"{name}={_word(value())}{f', {scheduler}' if scheduler else ''}"
            yield judged(title, call(_generated, pipe, given, name, value))


def _generated(pipe: sdrt.Pipeline, given: dict[str, Any], name: str, value: Any) -> None:
    options = given | {name: value()}
    options.pop("num_inference_steps" if name in ("timesteps", "sigmas") else "", None)
    if name in ("mask_image", "strength", "padding_mask_crop", "resize") and name != "image":
        options["image"] = Image.new("RGB", (64, 64))
    if name == "padding_mask_crop":
        options["mask_image"] = Image.new("L", (64, 64), 255)
    if "image" in options:
        options = {key: options[key] for key in options if key not in ("width", "height")}
    result = pipe(options.pop("prompt", "a"), **options)
    if not result.images or not all(image.size for image in result.images):
        raise AssertionError("a result without an image")


def requests_with_keywords(place: Place) -> Iterator[Case]:
    """Keywords next to a Request are applied, or refused."""
    with sdrt.Pipeline.open(place.toy(), "cpu") as pipe:
        request = sdrt.Request("a", **SMALL)
        ran = call(lambda: pipe(request, seed=9, num_inference_steps=3))
        applied = ran.value and (ran.value.seeds, ran.value.request.num_inference_steps) == (
            (9,),
            3,
        )
        yield judged("seed and steps", ran, success="works" if applied else "silent")
        for name in ("bogus", "steps", "seeds"):
            yield judged(name, call(partial(pipe, request, **{name: 3})), success="silent")


def controls(place: Place) -> Iterator[Case]:
    """Every field of Control with every value."""
    names = [field.name for field in dataclasses.fields(sdrt.Control)]
    for name, value in _sample(place, [(n, v) for n in names for v in VALUES], 320):
        options = {"image": Image.new("RGB", (64, 64))} | {name: value()}
        yield judged(f"Control({name}={_word(value())})", call(partial(sdrt.Control, **options)))


def _sample(place: Place, cases: list[Any], number: int) -> list[Any]:
    return place.random.sample(cases, min(len(cases), place.times(number)))


def _word(value: object) -> str:
    try:
        text = repr(value)
    except ValueError:
        text = "an int of 5000 digits"
    return text if len(text) < 50 else f"{text[:40]}…"


# --- a PNG's JSON

JSON_VALUES = (
    *("null", "true", "false", "0", "-1", "1", "3", "0.5", "1e400", "NaN", "Infinity", '"a"', '""'),
    *(
        "[]",
        "[1]",
        '["a"]',
        "[null]",
        "{}",
        '{"a": 1}',
        "9" * 400,
        "9" * 5000,
        '"' + "x" * 5000 + '"',
    ),
    *('"\\u0000"', '"\\ud800"', '"/dev/zero"', '"/nothing/there.png"', '{"edges": {"image": 1}}'),
    *('{"edges": {"image": "none.png", "scale": "a"}}', "[" * 2000 + "]" * 2000, '{"edges": []}'),
)


def json_in_a_png(place: Place) -> Iterator[Case]:
    """Every field that sdrt writes into a PNG, and unknown ones, with every JSON value."""
    base = {"bundle": str(place.toy()), "prompt": "a", **SMALL}
    names = [*PARAMETER, "bundle", "unknown", "loras"]
    for name, value in _sample(place, [(n, v) for n in names for v in JSON_VALUES], 900):
        rest = json.dumps({key: base[key] for key in base if key != name})
        text = f'{rest[:-1]}, "{name}": {value}}}'
        yield _from_png(place, f'"{name}": {value[:30]}', {JSON_KEY: text})


def texts_in_a_png(place: Place) -> Iterator[Case]:
    """Whole texts: no object, nested, with the lines of other programs."""
    for key, text in (
        *((JSON_KEY, text) for text in ("", "[]", "1", "{", "[" * 100_000, "nan", '{"a": 1}')),
        *(
            (TEXT_KEY, text)
            for text in ("", "\n\n", "a\nSteps: 9999999999999999999", "x: y, z: w, a: b")
        ),
        (TEXT_KEY, "a\nSteps: 2, Sampler: Euler a, CFG scale: 5, Seed: 7, Size: 64x64"),
        (TEXT_KEY, "a\nSteps: -2, Sampler: nothing, CFG scale: nan, Seed: x, Size: 0x0"),
        (TEXT_KEY, "a\nSteps: 2, Size: 99999999x99999999, Seed: " + "9" * 5000),
        (TEXT_KEY, "a\nSteps: 2, Seed: 7, Size: 64x64\nTemplate: {a|b}\nNegative Template: c"),
    ):
        yield _from_png(place, text[:40], {key: text}, str(place.toy()))


def _from_png(place: Place, title: str, texts: dict[str, str], *bundle: str) -> Case:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    path = place.work / "from.png"
    Image.new("RGB", (8, 8)).save(path, pnginfo=info)
    words = ("run", *bundle, "--from-image", path, "--target", "cpu", "-o", place.work / "o.png")
    return judged(f"PNG {title}", command(*words))
