"""The options of `sdrt run`, made from the parameters of a request."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sdrt.command_line.shared_options import (
    add_num_threads,
    add_target,
    height_and_width,
    number,
    numbers,
    start_and_end,
    top_and_left,
    whole_number,
)
from sdrt.kinds import Between, Flag, Kind, Numbers, OneOf, Pair, Scheduler, Texts, Window
from sdrt.metadata.saving import METADATA
from sdrt.parameters import MAX_SIDE, PARAMETER, SIZE, Parameter
from sdrt.scheduler_names import schedulers_help

_IMAGE_OPTIONS = ("image", "mask_image", "strength", "padding_mask_crop", "resize")
_OPTIONS = (
    "negative_prompt",
    "prompt_syntax",
    "num_inference_steps",
    "scheduler",
    "guidance_scale",
    "guidance_rescale",
    "speed",
    "guidance_interval",
    "forecast",
    "width",
    "height",
    "num_images_per_prompt",
    "seed",
    "eta",
    "clip_skip",
    "timesteps",
    "sigmas",
    "vae",
    "vae_tiling",
    "vae_tile_size",
)
_SDXL_OPTIONS = (
    "prompt_2",
    "negative_prompt_2",
    "original_size",
    "crops_coords_top_left",
    "target_size",
    "negative_original_size",
    "negative_crops_coords_top_left",
    "negative_target_size",
    "aesthetic_score",
    "negative_aesthetic_score",
)
_CONTROL_OPTIONS = {  # each may be repeated: its form and help
    "--control": ("NAME=IMAGE", PARAMETER["control"].help),
    "--control-scale": ("NAME=X", "strength of that ControlNet (-10 to 10; default: 1)"),
    "--control-window": (
        "NAME=START:END",
        "the part of the steps during which it is active, such as 0:0.6 (default: 0:1)",
    ),
    "--annotate": (
        "NAME=ANNOTATOR",
        "make the control image out of IMAGE first; the one annotator is canny",
    ),
}


def add_run(parser: argparse.ArgumentParser) -> None:
    """Adds the options of `sdrt run`, named as the fields of a request."""
    parser.add_argument(
        "bundle", nargs="?", help='a bundle folder, or "demo"; optional with --from-image'
    )
    parser.add_argument("prompt", nargs="?", help="what to generate; optional with --from-image")
    _add_files(parser)
    add_parameters(parser, _OPTIONS)
    parser.epilog = f"Schedulers: {schedulers_help()}"
    add_parameters(parser.add_argument_group("images"), _IMAGE_OPTIONS)
    add_parameters(
        parser.add_argument_group("models with two text encoders or with sizes as inputs (SDXL)"),
        _SDXL_OPTIONS,
    )
    _add_refiner(parser.add_argument_group("refiner"))
    _add_control(parser.add_argument_group("ControlNets, each by its name in the bundle"))
    parser.add_argument(
        "--deadline",
        type=number,
        metavar="SECONDS",
        help="end with an error if the images are not ready after this time",
    )
    add_target(parser, "what to run on")
    parser.add_argument(
        "--precision",
        choices=["int8"],
        help="run the target in int8, as does a target such as cpu:int8; needs sdrt build "
        "--precision int8",
    )
    add_num_threads(parser)
    _add_opening(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print only errors")


def _add_opening(parser: argparse.ArgumentParser) -> None:
    """Adds the options about when networks are opened and closed."""
    opening = parser.add_mutually_exclusive_group()
    opening.add_argument(
        "--low-memory",
        action="store_true",
        help="open each network only when the one before is closed: takes little more memory than "
        "the largest network",
    )
    opening.add_argument(
        "--warm-up",
        action="store_true",
        help="run every network once before the images, so that their time and --deadline do not "
        "count loading",
    )


def _add_files(parser: argparse.ArgumentParser) -> None:
    """Adds the options about PNGs."""
    parser.add_argument(
        "-o",
        "--output",
        type=Path,
        metavar="PNG",
        help="file to write (default: sdrt-SEED.png, or its next free number)",
    )
    parser.add_argument(
        "--from-image",
        type=Path,
        metavar="PNG",
        help="take what is left out here from this PNG of sdrt or A1111",
    )
    parser.add_argument(
        "--metadata",
        choices=METADATA,
        default="full",
        help="what PNGs record: all parameters with relative paths and hashes of input images, "
        "all but paths, or nothing (default: full)",
    )


def add_parameters(group: argparse._ActionsContainer, names: Iterable[str]) -> None:
    """Adds the options that set these parameters of a request."""
    for name in names:
        parameter = PARAMETER[name]
        group.add_argument(
            *(parameter.options or (f"--{name.replace('_', '-')}",)),
            dest=name,
            help=_help_of(parameter),
            **_argument_of(parameter.kind),
        )


def _add_refiner(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--refiner", metavar="BUNDLE", help="a second bundle, which takes the last steps"
    )
    add_parameters(group, ["refiner_start"])


def _add_control(group: argparse._ArgumentGroup) -> None:
    for option, (form, meaning) in _CONTROL_OPTIONS.items():
        group.add_argument(option, action="append", metavar=form, help=meaning)
    add_parameters(group, ["guess_mode"])


def _argument_of(kind: Kind) -> dict[str, Any]:
    """The arguments with which argparse reads a value of this kind."""
    match kind:
        case Between(whole=True):
            return {"type": whole_number, "metavar": "N"}
        case Between():
            return {"type": number, "metavar": "X"}
        case Numbers():
            return {"type": numbers, "metavar": "X,X"}
        case OneOf(words):
            return {"choices": words}
        case Flag():
            return {"action": argparse.BooleanOptionalAction}
        case Pair() if kind == SIZE:
            return {"type": height_and_width, "metavar": "WIDTHxHEIGHT"}
        case Pair():
            return {"type": top_and_left, "metavar": "TOP,LEFT"}
        case Window():
            return {"type": start_and_end, "metavar": "START:END"}
        case Texts():
            return {"metavar": "TEXT"}
        case Scheduler():
            return {"metavar": "NAME"}
        case _:
            return {"metavar": "IMAGE"}


def _help_of(parameter: Parameter) -> str:
    details = []
    if isinstance(parameter.kind, Between) and parameter.kind.high <= MAX_SIDE:
        details.append(f"{parameter.kind.low:g} to {parameter.kind.high:g}")
    if parameter.default:
        details.append(f"default: {parameter.default}")
    return f"{parameter.help} ({'; '.join(details)})" if details else parameter.help
