"""The commands and options of `sdrt`, and the errors for wrong ones."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn, TypeAlias

import sdrt
from sdrt.command_line.bench_options import add_bench
from sdrt.command_line.export_options import add_export
from sdrt.command_line.hints import hint_on_option, is_known_elsewhere
from sdrt.command_line.run_options import add_run
from sdrt.command_line.shared_options import add_num_threads, add_target, whole_number
from sdrt.command_line.tune_options import add_tune
from sdrt.errors import UsageError, did_you_mean, quoted
from sdrt.recommended import RECOMMENDED

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
    """Raises `UsageError` with one line that suggests what was probably meant."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.formatter_class = _WithDefaults

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message} (see {self.prog} --help)")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        options, unknown = super().parse_known_args(args, namespace)
        for argument in unknown:
            if argument.startswith("-"):
                self.error(self._unknown(argument))
            self.error(
                f"{quoted(argument)} is one argument too many: put quotes around the whole prompt"
            )
        return options, unknown

    def _unknown(self, option: str) -> str:
        arguments = [action.dest for action in self._get_positional_actions()]
        hint = hint_on_option(option, self.prog, self._option_string_actions, arguments)
        return f"no option {option}, {hint}"

    def _get_option_tuples(self, option_string: str) -> Any:
        """The options that it abbreviates: none if it is a word of its own, such as --prompt."""
        arguments = [f"--{action.dest}" for action in self._get_positional_actions()]
        word = option_string.partition("=")[0]
        if word in arguments or is_known_elsewhere(word):
            return []
        return super()._get_option_tuples(option_string)

    def _get_values(self, action: argparse.Action, arg_strings: list[str]) -> Any:
        if action.option_strings and arg_strings == ["--"]:  # argparse would make it an empty list
            raise argparse.ArgumentError(action, "got '--', expected a value")
        return super()._get_values(action, arg_strings)

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            near = did_you_mean(value, action.choices)
            raise argparse.ArgumentError(action, f"got {quoted(value)}, {near}")


class _WithDefaults(argparse.HelpFormatter):
    def _get_help_string(self, action: argparse.Action) -> str:
        return help_with_default(action)


def help_with_default(action: argparse.Action) -> str:
    """The help of an option, and its default if it has one that the help does not say in words."""
    text, default = action.help or "", action.default
    meaningful = not (default is None or default is False or default in ([], argparse.SUPPRESS))
    if not (action.option_strings and meaningful) or "default" in text:
        return text
    shown = ",".join(map(str, default)) if isinstance(default, list) else default
    return f"{text} (default: {shown})"


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument(
        "--target",
        help="what to build for: cpu (this machine's), cpu:int8 or openvino:int8 (the same file), "
        "cuda, tensorrt (this machine's GPU), tensorrt-rtx (RTX 30 and later), or "
        "tensorrt-rtx:sm86,sm89 (these architectures)",
    )
    _add_shapes(parser)
    parser.add_argument(
        "--precision",
        choices=["fp16", "bf16", "int8"],
        help="precision to compute in (default: fp16 on a GPU, float32 on the target cpu); int8, "
        "of the denoiser alone, is for the CPU and needs no --target",
    )
    parser.add_argument(
        "--calibrate",
        type=Path,
        metavar="FILE",
        help="prompts, one per line, like those that you will use: int8 is calibrated on images of "
        "them (default: a short list of sdrt's own)",
    )
    parser.add_argument(
        "--component",
        action="append",
        default=[],
        metavar="NAME",
        help="build only this component; may be repeated (default: all)",
    )
    parser.add_argument(
        "--prune",
        action="store_true",
        help="remove the plans that the same components have for other settings",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print only errors")


def _add_shapes(parser: argparse.ArgumentParser) -> None:
    """Adds the options about the shapes of plans."""
    parser.add_argument(
        "--shapes",
        action="append",
        default=[],
        metavar="WIDTHxHEIGHT",
        help="image size to build for, or a range such as 512x512..1024x1024; may be repeated "
        "(default: the size that the model was trained for)",
    )
    parser.add_argument(
        "--batch",
        default="1",
        metavar="N",
        help="number of images at once, or a range such as 1..4",
    )
    parser.add_argument(
        "--chunks",
        type=whole_number,
        default=1,
        metavar="N",
        help="the most chunks of 75 tokens that a prompt takes, for prompts in A1111's syntax",
    )


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle",
        help='a bundle folder or "demo", or a safetensors file: checkpoint, VAE, ControlNet, LoRA, '
        "embedding",
    )
    parser.add_argument(
        "--json", action="store_true", help="print the manifest, or what the file is, as JSON"
    )


def _add_set(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help="a bundle folder")
    parser.add_argument(
        "settings",
        nargs="+",
        metavar="NAME=VALUE",
        help=f"{', '.join(RECOMMENDED)}; NAME= restores the model's own default",
    )


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    add_target(parser, "what to compare with the CPU")
    add_num_threads(parser)
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "bundle",
        nargs="?",
        help="also show which target auto takes for this bundle, and what sdrt tune measured",
    )
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


_COMMANDS: Mapping[str, tuple[Callable[[argparse.ArgumentParser], None], str]] = {
    "run": (add_run, "generate images with a bundle"),
    "export": (add_export, "compile a checkpoint into a bundle"),
    "build": (_add_build, "compile a bundle for a target"),
    "inspect": (_add_inspect, "show the contents of a bundle, or what a file is"),
    "set": (_add_set, "change the defaults of a bundle"),
    "verify": (_add_verify, "compare a target's results with the CPU's"),
    "tune": (add_tune, "measure which target is the fastest on this machine, for --target auto"),
    "bench": (add_bench, "measure the speed of a target"),
    "doctor": (_add_doctor, "show which targets work on this machine, and what the others need"),
}
