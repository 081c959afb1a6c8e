"""The commands and options of `sdrt`, and the errors for wrong ones."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeAlias, get_args

import sdrt
from sdrt.errors import UsageError, did_you_mean
from sdrt.images.framing import Resize

Command: TypeAlias = Callable[[argparse.Namespace], None]


def parser_of(commands: Mapping[str, Command]) -> argparse.ArgumentParser:
    """The parser of the command line; a command's options name its function as `command`."""
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser("sdrt", description=(sdrt.__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"sdrt {sdrt.__version__}")
    places = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, command in commands.items():
        add_options, meaning = _COMMANDS[name]
        place = places.add_parser(name, parents=[common], help=meaning)
        place.set_defaults(command=command)
        add_options(place)
    return parser


class _Parser(argparse.ArgumentParser):
    """Raises `UsageError` with one line, which names what was probably meant."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = super().parse_known_args(args, namespace)
        for argument in unknown:
            if argument.startswith("-"):
                near = did_you_mean(argument, self._option_string_actions)
                self.error(f"no option {argument}, {near}")
            self.error(f"{argument!r} is one argument too many: put quotes around a prompt")
        return options, unknown

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = did_you_mean(value, action.choices)
            raise argparse.ArgumentError(action, f"got {value!r}, {near}")


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected a number") from None


@dataclass(frozen=True)
class _Kind:
    """How the value of an option is written, and read."""

    metavar: str
    type: Callable[[str], Any] = str


@dataclass(frozen=True)
class _Field:
    """An option that sets a field of a request."""

    field: str
    kind: _Kind
    help: str
    names: tuple[str, ...] = ()  # in place of --field-with-dashes

    def add_to(self, group: argparse._ActionsContainer) -> None:
        group.add_argument(
            *(self.names or (f"--{self.field.replace('_', '-')}",)),
            dest=self.field,
            metavar=self.kind.metavar,
            type=self.kind.type,
            help=self.help,
        )


_TEXT = _Kind("TEXT")
_NAME = _Kind("NAME")
_IMAGE = _Kind("PICTURE")
_COUNT = _Kind("N", _whole_number)
_NUMBER = _Kind("X", _number)

_FIELDS = (
    _Field(
        "negative_prompt", _TEXT, "what the images should not show", ("-n", "--negative-prompt")
    ),
    _Field(
        "num_inference_steps",
        _COUNT,
        "number of denoising steps",
        ("--steps", "--num-inference-steps"),
    ),
    _Field("guidance_scale", _NUMBER, "how strongly the prompt guides (1 = not at all)"),
    _Field("guidance_rescale", _NUMBER, "0..1, against over-exposure by high guidance"),
    _Field("scheduler", _NAME, "e.g. euler, dpmpp_2m_karras, or a diffusers class name"),
    _Field("width", _COUNT, "pixels", ("-W", "--width")),
    _Field("height", _COUNT, "pixels", ("-H", "--height")),
    _Field(
        "num_images_per_prompt",
        _COUNT,
        "seeds count up from --seed",
        ("--num-images", "--num-images-per-prompt"),
    ),
    _Field("seed", _COUNT, "default: a random one, which the PNG records", ("-s", "--seed")),
    _Field("eta", _NUMBER, "share of fresh noise for DDIM, 0..1"),
    _Field("clip_skip", _COUNT, "leave out that many of the text encoder's last layers"),
)
_IMAGE_FIELDS = (
    _Field("image", _IMAGE, "begin with this picture"),
    _Field(
        "mask_image", _IMAGE, "generate only where this one is white", ("--mask", "--mask-image")
    ),
    _Field(
        "strength", _NUMBER, "0..1, how much of the picture changes (default: 0.8, with a mask 1)"
    ),
    _Field(
        "padding_mask_crop",
        _COUNT,
        "generate only the mask and N pixels around it, larger, and paste the result back",
    ),
)
_CONTROL_OPTIONS = {  # each may be repeated: of what form, and what for
    "--control": ("NAME=PICTURE", "generate along this picture"),
    "--control-scale": ("NAME=X", "how much it counts (default: 1)"),
    "--control-window": ("NAME=START:END", "from which to which share of the steps (0:1)"),
    "--annotate": ("NAME=ANNOTATOR", "make the control picture from it first, with canny"),
}


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle", nargs="?", help='a bundle folder, or "demo"; from --from-image if left out'
    )
    parser.add_argument("prompt", nargs="?", help="what to generate; from --from-image if left out")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PNG", help="file to write (default: sdrt-SEED.png)"
    )
    parser.add_argument(
        "--from-image", type=Path, metavar="PNG", help="take all parameters from a PNG of sdrt"
    )
    for field in _FIELDS:
        field.add_to(parser)
    _add_images(parser.add_argument_group("pictures"))
    _add_control(parser.add_argument_group("ControlNets, each by its name in the bundle"))
    parser.add_argument(
        "--target", default="auto", help="where to run (default: auto, the fastest that opens here)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def _add_images(group: argparse._ArgumentGroup) -> None:
    for field in _IMAGE_FIELDS:
        field.add_to(group)
    group.add_argument(
        "--resize", choices=get_args(Resize), help="how pictures are brought to another shape"
    )


def _add_control(group: argparse._ArgumentGroup) -> None:
    for option, (form, meaning) in _CONTROL_OPTIONS.items():
        group.add_argument(option, action="append", metavar=form, help=meaning)
    group.add_argument(
        "--guess-mode",
        action=argparse.BooleanOptionalAction,
        help="let the control pictures decide where the prompt says nothing",
    )


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", nargs="?", help='a diffusers folder, a Hub id, or "demo"')
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("-o", "--output", type=Path, help="bundle folder to write")
    place.add_argument(
        "--into", type=Path, metavar="BUNDLE", help="add ControlNets to this bundle instead"
    )
    parser.add_argument(
        "--controlnet",
        type=_name_and_path,
        action="append",
        default=[],
        metavar="NAME=PATH",
        dest="controlnets",
        help="a ControlNet, a diffusers folder or a Hub id, and the name to call it by",
    )
    parser.add_argument(
        "--weights",
        choices=["auto", "fp32", "fp16"],
        default="auto",
        help="how weights are stored; auto stores float16 if that changes none",
    )
    parser.add_argument(
        "--target",
        action="append",
        default=[],
        dest="targets",
        help="also build for this target, as `sdrt build` does; may be repeated",
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="replace an existing bundle, or with --into its ControlNets of these names",
    )


def _name_and_path(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=PATH, as in canny=folder")
    return name, path


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument(
        "--target",
        required=True,
        help="cpu (this machine's), cuda, tensorrt (this machine's GPU), tensorrt-rtx (any), or "
        "tensorrt-rtx:sm86,sm89",
    )
    parser.add_argument(
        "--shapes",
        action="append",
        default=[],
        metavar="WIDTHxHEIGHT",
        help="of pictures, or from..to as 512x512..1024x1024; may be repeated (default: the size "
        "that the model was trained for)",
    )
    parser.add_argument(
        "--batch", default="1", metavar="N", help="pictures at once, or from..to as 1..4"
    )
    parser.add_argument(
        "--precision",
        choices=["fp16", "bf16"],
        help="what is computed in (default: fp16; on the target cpu it is float32)",
    )
    parser.add_argument(
        "--component",
        action="append",
        default=[],
        metavar="NAME",
        help="build this network alone; may be repeated (default: all)",
    )
    parser.add_argument(
        "--prune", action="store_true", help="remove plans of these networks for other settings"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument(
        "--target", default="auto", help="what to compare (default: auto, the fastest that opens)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


_COMMANDS: Mapping[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "run": (_add_run, "generate images with a bundle"),
    "export": (_add_export, "compile a checkpoint into a bundle"),
    "build": (_add_build, "compile a bundle for a target"),
    "inspect": (_add_inspect, "show what a bundle holds"),
    "verify": (_add_verify, "compare a target with the CPU"),
    "doctor": (_add_doctor, "show which targets open here"),
}
