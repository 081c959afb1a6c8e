"""Hints on options that `sdrt` does not have, typed by users of other programs."""

from __future__ import annotations

import argparse

import pytest

from sdrt.command_line.hints import hint_on_option
from sdrt.command_line.options import parser_of

KNOWN = ("--width", "--height", "--guidance-scale", "--steps", "--resize", "--num-images", "-s")


@pytest.mark.parametrize(
    ("option", "hint"),
    [
        ("--size", "did you mean '--width' or '--height'?"),
        ("--size=512x512", "did you mean '--width' or '--height'?"),
        ("--cfg", "did you mean '--guidance-scale'?"),
        ("--cfg_scale", "did you mean '--guidance-scale'?"),
        ("--n", "did you mean '--num-images'?"),
        ("--sampling-steps", "did you mean '--steps'?"),
        ("--guidence-scale", "did you mean '--guidance-scale'?"),
        ("-S", "did you mean '-s'?"),
        ("--hires", f"known: {', '.join(KNOWN)}"),  # not --resize
        ("--device", f"known: {', '.join(KNOWN)}"),  # --target is not among them
        ("--prompt", "give it without one: sdrt run BUNDLE PROMPT"),
        ("--lora", "give --lora to `sdrt export`, which merges it into the weights"),
        ("--lora_scale=1", "give --lora to `sdrt export`, which merges it into the weights"),
        ("--model", "give it without one: sdrt run BUNDLE PROMPT"),
    ],
)
def test_what_is_meant(option: str, hint: str) -> None:
    assert hint_on_option(option, "sdrt run", KNOWN, ("bundle", "prompt")) == hint


def test_every_hint_names_an_option_that_a_command_has() -> None:
    from sdrt.command_line import hints

    parser = parser_of(dict.fromkeys(("run", "export", "build", "bench"), print))
    (places,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    known = {option for each in places.choices.values() for option in each._option_string_actions}
    tables = {**hints._OPTIONS, **hints._parameter_options()}
    assert {name for meant in tables.values() for name in hints._names(meant)} <= known


COMMANDS = ("run", "export", "build", "inspect", "set", "verify", "tune", "bench", "doctor")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_every_default(command: str) -> None:
    parser = parser_of(dict.fromkeys(COMMANDS, print))
    (places,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    helped = places.choices[command]
    formatter = helped._get_formatter()
    for action in helped._actions:
        means_something = action.default == 0 or action.default not in (None, [], argparse.SUPPRESS)
        if action.option_strings and means_something and action.default is not False:
            assert "default: " in formatter._expand_help(action)
