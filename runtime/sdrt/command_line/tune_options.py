"""The options of `sdrt tune`."""

from __future__ import annotations

import argparse

from sdrt.command_line.shared_options import whole_number


def add_tune(parser: argparse.ArgumentParser) -> None:
    """Adds them. Lists are separated by commas."""
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        dest="targets",
        metavar="TARGET",
        help="a target to measure; may be repeated (default: all that open here)",
    )
    parser.add_argument(
        "--num-threads",
        type=_whole_numbers,
        default=[],
        metavar="N,…",
        help="numbers of CPU threads (default: the library's choice, and one per logical core)",
    )
    for side in ("width", "height"):
        parser.add_argument(
            f"--{side}",
            type=_whole_numbers,
            metavar="N,…",
            help=f"one or more {side}s in pixels (default: what the bundle recommends)",
        )
    parser.add_argument(
        "--batch", type=_whole_numbers, default=[1], metavar="N,…", help="number of images at once"
    )
    parser.add_argument(
        "--runs", type=whole_number, default=3, metavar="N", help="steps to measure (default: 3)"
    )
    results = parser.add_mutually_exclusive_group()
    results.add_argument("--json", action="store_true", help="print the result as JSON")
    results.add_argument(
        "--forget", action="store_true", help="measure nothing; remove this machine's result"
    )


def _whole_numbers(text: str) -> list[int]:
    return [whole_number(part) for part in text.split(",")]
