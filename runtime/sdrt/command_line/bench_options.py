"""The options of `sdrt bench`, and the scenarios that each belongs to."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_args

from sdrt.command_line.run_options import add_parameters
from sdrt.command_line.shared_options import add_num_threads, add_target, number, whole_number
from sdrt.errors import UsageError
from sdrt.parameters import Speed

Number = TypeVar("Number", int, float)

PROMPT = "a large red circle on a white background"
NO_SCENARIO = "none"
COMPARISON = "comparison"
_IMAGE_FIELDS = "num_inference_steps", "guidance_scale", "scheduler", "width", "height", "speed"


def _count(text: str) -> int:
    return _at_least(1, whole_number(text), "a whole number of at least 1")


def _count_or_zero(text: str) -> int:
    return _at_least(0, whole_number(text), "a whole number of at least 0")


def _counts(text: str) -> tuple[int, ...]:
    return tuple(dict.fromkeys(_count(word) for word in text.split(",")))


def _seconds(text: str) -> float:
    return _at_least(0, number(text), "a number of at least 0")


def _positive(text: str) -> float:
    return _at_least(math.ulp(0), number(text), "a number greater than 0")


def _at_least(low: Number, value: Number, expected: str) -> Number:
    if low <= value < math.inf:  # excludes NaN
        return value
    raise argparse.ArgumentTypeError(f"got {value}, expected {expected}")


@dataclass(frozen=True)
class _Option:
    """An option of some scenarios, with its default in each."""

    name: str
    metavar: str
    type: Any
    help: str
    defaults: Mapping[str, Any]  # by scenario


_OPTIONS = (
    _Option(
        "--runs",
        "N",
        _count,
        "how many images to measure (default: 5, or 8 pairs with --compare)",
        {NO_SCENARIO: 5, COMPARISON: 8},
    ),
    _Option(
        "--batches",
        "N,N",
        _counts,
        "how many images to generate at once, one or more numbers (default: 1,2,4)",
        {NO_SCENARIO: (1, 2, 4)},
    ),
    _Option(
        "--cold-starts",
        "N",
        _count_or_zero,
        "how many new processes to start, each for one image (default: 1)",
        {NO_SCENARIO: 1},
    ),
    _Option(
        "--warmed-starts",
        "N",
        _count_or_zero,
        "how many new processes to start that run every network before they are ready (default: 0)",
        {NO_SCENARIO: 0},
    ),
    _Option(
        "--queries",
        "N",
        _count,
        "minimum number of images (default: 64 for single-stream, 24 for offline, 459 for server: "
        "the fewest that can be valid)",
        {"single-stream": 64, "offline": 24, "server": 459},
    ),
    _Option(
        "--duration",
        "SECONDS",
        _seconds,
        "minimum duration of the measurement (default: 0)",
        {"single-stream": 0.0, "offline": 0.0, "server": 0.0},
    ),
    _Option(
        "--batch", "N", _count, "how many images to generate at once (default: 1)", {"offline": 1}
    ),
    _Option("--rate", "X", _positive, "average number of queries per second", {"server": None}),
    _Option(
        "--latency-bound",
        "SECONDS",
        _positive,
        "latency that 99%% of the queries must keep (default: 20)",
        {"server": 20.0},
    ),
)


def add_bench(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `sdrt bench`."""
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    add_target(parser, "what to measure")
    add_num_threads(parser)
    _add_image(parser.add_argument_group("the image (defaults: what the bundle recommends)"))
    _add_measurement(parser.add_argument_group("measurement"))
    _add_outputs(parser.add_argument_group("output"))


def _add_image(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--prompt", default=PROMPT, metavar="TEXT", help="what to generate")
    add_parameters(group, _IMAGE_FIELDS)


def _add_measurement(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--warmup",
        type=_count_or_zero,
        default=1,
        metavar="N",
        help="how many runs to make first without counting them",
    )
    group.add_argument(
        "--scenario",
        choices=("single-stream", "offline", "server"),
        default=NO_SCENARIO,
        help="measure as MLPerf's loadgen does, instead of stages, batches and cold start",
    )
    group.add_argument(
        "--compare",
        choices=get_args(Speed),
        help="measure --speed against this one, in turns: relative time, PSNR and SSIM; against "
        "exact also the fewest steps that are as near",
    )
    for option in _OPTIONS:
        group.add_argument(option.name, type=option.type, metavar=option.metavar, help=option.help)
    group.add_argument(
        "--seed",
        type=_count_or_zero,
        default=0,
        metavar="N",
        help="seed of the images and of the arrival times",
    )


def _add_outputs(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="append one line of JSON for each figure to this file",
    )
    group.add_argument(
        "--plot",
        type=Path,
        metavar="PNG",
        help="plot the figures into this file; needs pip install 'sdrt[plot]'",
    )


def scenario_options(options: argparse.Namespace) -> dict[str, Any]:
    """The values of the scenario's options. UsageError if another option is given."""
    scenario, values = _kind(options), {}
    for option in _OPTIONS:
        name = option.name.removeprefix("--").replace("-", "_")
        given = getattr(options, name)
        if scenario in option.defaults:
            values[name] = option.defaults[scenario] if given is None else given
        elif given is not None:
            raise UsageError(f"{option.name} is for {_listed(option.defaults)}: leave it out")
    if scenario == "server" and values["rate"] is None:
        raise UsageError("--scenario server needs --rate: give the queries per second")
    return values


def _kind(options: argparse.Namespace) -> str:
    """The scenario, or that it is a comparison. UsageError if both, or a comparison of the same."""
    if options.compare is None:
        return str(options.scenario)
    if options.scenario != NO_SCENARIO:
        raise UsageError("--compare and --scenario were both given: leave one of them out")
    if options.compare == (options.speed or "exact"):
        raise UsageError(
            f"--compare {options.compare}: --speed is the same, so there is nothing to compare: "
            "give another one with --speed"
        )
    return COMPARISON


def _listed(scenarios: Mapping[str, Any]) -> str:
    if COMPARISON in scenarios:
        return "runs without --scenario"
    if NO_SCENARIO in scenarios:
        return "runs without --scenario and --compare"
    return f"--scenario {' or '.join(scenarios)}"
