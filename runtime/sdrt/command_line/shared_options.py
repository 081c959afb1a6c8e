"""Functions for options that several commands share."""

from __future__ import annotations

import argparse


def whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number") from None


def number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number") from None


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
