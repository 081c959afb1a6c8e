"""The options of `sdrt bench`, and the scenarios that each belongs to."""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sdrt.command_line.run_options import add_parameters
from sdrt.command_line.shared_options import add_num_threads, add_target, number, whole_number
from sdrt.errors import UsageError

Number = TypeVar("Number", int, float)

PROMPT = "a large red circle on a white background"
NO_SCENARIO = "none"
_IMAGE_FIELDS = "num_inference_steps", "guidance_scale", "scheduler", "width", "height"


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
    _Option("--runs", "N", _count, "how many images to measure (default: 5)", {NO_SCENARIO: 5}),
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
    image = parser.add_argument_group("the image (defaults: what the bundle recommends)")
    image.add_argument("--prompt", default=PROMPT, metavar="TEXT", help="what to generate")
    add_parameters(image, _IMAGE_FIELDS)
    measured = parser.add_argument_group("measurement")
    measured.add_argument(
        "--warmup",
        type=_count_or_zero,
        default=1,
        metavar="N",
        help="how many runs to make first without counting them",
    )
    measured.add_argument(
        "--scenario",
        choices=("single-stream", "offline", "server"),
        default=NO_SCENARIO,
        help="measure as MLPerf's loadgen does, instead of stages, batches and cold start",
    )
    for option in _OPTIONS:
        measured.add_argument(
            option.name, type=option.type, metavar=option.metavar, help=option.help
        )
    measured.add_argument(
        "--seed",
        type=_count_or_zero,
        default=0,
        metavar="N",
        help="seed of the images and of the arrival times",
    )
    _add_outputs(parser.add_argument_group("output"))


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
    scenario, values = options.scenario, {}
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


def _listed(scenarios: Mapping[str, Any]) -> str:
    if NO_SCENARIO in scenarios:
        return "runs without --scenario"
    return f"--scenario {' or '.join(scenarios)}"
