"""The options of `sdrt run`, made from the parameters of a request."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sdrt.command_line.shared_options import add_num_threads, add_target, number, whole_number
from sdrt.kinds import Between, Flag, Kind, OneOf, Scheduler, Texts
from sdrt.metadata.saving import METADATA
from sdrt.parameters import MAX_SIDE, PARAMETER, Parameter
from sdrt.scheduler_names import schedulers_help

_IMAGE_OPTIONS = ("image", "mask_image", "strength", "padding_mask_crop", "resize")
_OPTIONS = (
    "negative_prompt",
    "num_inference_steps",
    "scheduler",
    "guidance_scale",
    "guidance_rescale",
    "width",
    "height",
    "num_images_per_prompt",
    "seed",
    "eta",
    "clip_skip",
    "vae_tiling",
    "vae_tile_size",
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
    add_parameters(parser, _OPTIONS)
    parser.epilog = f"Schedulers: {schedulers_help()}"
    add_parameters(parser.add_argument_group("images"), _IMAGE_OPTIONS)
    _add_control(parser.add_argument_group("ControlNets, each by its name in the bundle"))
    parser.add_argument(
        "--deadline",
        type=number,
        metavar="SECONDS",
        help="end with an error if the images are not ready after this time",
    )
    add_target(parser, "what to run on")
    add_num_threads(parser)
    parser.add_argument("-q", "--quiet", action="store_true", help="print only errors")


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
        case OneOf(words):
            return {"choices": words}
        case Flag():
            return {"action": argparse.BooleanOptionalAction}
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
