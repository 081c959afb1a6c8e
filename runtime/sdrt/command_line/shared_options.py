"""Functions for options that several commands share."""

from __future__ import annotations

import argparse
import re

from sdrt.errors import quoted


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {quoted(text)}, expected a whole number") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {quoted(text)}, expected a number") from None


def numbers(text: str) -> tuple[float, ...]:
    try:
        return tuple(float(each) for each in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"got {quoted(text)}, expected numbers such as 999,749,499,249"
        ) from None


def height_and_width(text: str) -> tuple[int, int]:
    """The numbers of WIDTHxHEIGHT, as all sizes are typed, in diffusers' order."""
    match = re.fullmatch(r"(\d{1,9})[x×](\d{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(
            f"got {quoted(text)}, expected WIDTHxHEIGHT, as in 1024x768"
        )
    return int(match[2]), int(match[1])


def top_and_left(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,9}),(\d{1,9})", text)
    if match is None:
        raise argparse.ArgumentTypeError(f"got {quoted(text)}, expected TOP,LEFT, as in 0,128")
    return int(match[1]), int(match[2])


def start_and_end(text: str) -> tuple[float, float]:
    start, _, end = text.partition(":")
    try:
        return float(start), float(end)
    except ValueError:
        raise argparse.ArgumentTypeError(
            f"got {quoted(text)}, expected START:END, as in 0.2:0.8"
        ) from None


def add_target(parser: argparse.ArgumentParser, meaning: str) -> None:
    parser.add_argument(
        "--target",
        default="auto",
        help=f"{meaning}, such as cpu; sdrt doctor lists the targets (default: auto, the fastest "
        "that sdrt tune found, or else the first that opens)",
    )


def add_num_threads(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--num-threads",
        type=whole_number,
        metavar="N",
        help="number of CPU threads to compute on (default: one per physical core)",
    )
