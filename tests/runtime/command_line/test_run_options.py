"""Options of `sdrt run` whose values are more than a number or a word."""

from __future__ import annotations

import argparse

import pytest

from sdrt.command_line.options import parser_of
from sdrt.errors import UsageError


def parsed(*options: str) -> argparse.Namespace:
    return parser_of({"run": print}).parse_args(["run", "bundle", "a star", *options])


@pytest.mark.parametrize(
    ("options", "name", "value"),
    [
        (["--original-size", "1024x768"], "original_size", (768, 1024)),
        (["--target-size", "1024×768"], "target_size", (768, 1024)),
        (["--crop", "0,128"], "crops_coords_top_left", (0, 128)),
        (["--crops-coords-top-left", "5,6"], "crops_coords_top_left", (5, 6)),
        (["--negative-original-size=8x9"], "negative_original_size", (9, 8)),
        (["--negative-crop", "7,8"], "negative_crops_coords_top_left", (7, 8)),
        (["--prompt-2", "a sun"], "prompt_2", "a sun"),
        (["-n", ""], "negative_prompt", ""),
        ([], "negative_prompt", None),
        (["--aesthetic-score", "7.5"], "aesthetic_score", 7.5),
        (["--guidance-interval", "0.2:0.8"], "guidance_interval", (0.2, 0.8)),
        (["--forecast", "10"], "forecast", 10),
    ],
)
def test_values(options: list[str], name: str, value: object) -> None:
    assert getattr(parsed(*options), name) == value


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--original-size", "1024"], "got '1024', expected WIDTHxHEIGHT, as in 1024x768"),
        (["--original-size", "1024,768"], "got '1024,768', expected WIDTHxHEIGHT"),
        (["--target-size", "-8x8"], "argument --target-size"),
        (["--crop", "8x8"], "got '8x8', expected TOP,LEFT, as in 0,128"),
        (["--crop", "1,2,3"], "got '1,2,3', expected TOP,LEFT"),
        (["--guidance-interval", "0.2"], "got '0.2', expected START:END, as in 0.2:0.8"),
        (["--guidance-interval", "a:1"], "got 'a:1', expected START:END, as in 0.2:0.8"),
        (["--forecast", "half"], "argument --forecast: got 'half', expected a whole number"),
        # not abbreviations of --prompt-2 and --negative-prompt
        (["--prompt", "a sun"], "no option --prompt, give it without one: sdrt run BUNDLE PROMPT"),
        (["--prompt=a sun"], "no option --prompt"),
        (["--negative", "a sun"], "no option --negative, did you mean '--negative-prompt'?"),
    ],
)
def test_errors(options: list[str], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        parsed(*options)
    assert message in str(caught.value)


def test_an_option_may_be_abbreviated() -> None:
    assert parsed("--original", "8x9").original_size == (9, 8)
