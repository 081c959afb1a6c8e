"""The command line: ``sdrt run``, ``export``, ``build``, ``inspect``, ``verify``, ``doctor``.

Errors that sdrt raises are one line and exit code 1, usage errors exit code 2; ``--debug`` shows
the traceback.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from io import TextIOWrapper
from pathlib import Path
from typing import Any, NoReturn

import sdrt
from sdrt.errors import SdrtError, UsageError, did_you_mean


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    warnings.formatwarning = _format_warning
    # sdrt refuses large pictures itself, from fewer pixels on
    warnings.filterwarnings("ignore", message="Image size", module=r"PIL\.")
    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # not every terminal has every letter
    try:
        options = _parser().parse_args(arguments)
    except UsageError as error:
        return _tell(error)
    try:
        options.command(options)
    except SdrtError as error:
        if options.debug:
            raise
        return _tell(error)
    except KeyboardInterrupt:
        sys.stderr.write("sdrt: interrupted, nothing was written\n")
        return 130
    return 0


def _tell(error: SdrtError) -> int:
    """One line on stderr, whatever the message holds, and the exit code."""
    sys.stderr.write(f"sdrt: {' '.join(str(error).split())}\n")
    return 2 if isinstance(error, UsageError) else 1


class _Parser(argparse.ArgumentParser):
    """Raises UsageError with one line, which names what was probably meant."""

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


def _parser() -> _Parser:
    common = _Parser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = _Parser("sdrt", description=(sdrt.__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"sdrt {sdrt.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", parents=[common], help="draw images with a bundle"))
    _add_export(
        commands.add_parser("export", parents=[common], help="compile a checkpoint into a bundle")
    )
    _add_build(commands.add_parser("build", parents=[common], help="compile a bundle for a GPU"))
    _add_inspect(commands.add_parser("inspect", parents=[common], help="show what a bundle holds"))
    _add_verify(
        commands.add_parser("verify", parents=[common], help="compare a target with the CPU")
    )
    _add_doctor(
        commands.add_parser("doctor", parents=[common], help="show which targets open here")
    )
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_run)
    parser.add_argument(
        "bundle", nargs="?", help='a bundle folder, or "demo"; from --from-image if left out'
    )
    parser.add_argument("prompt", nargs="?", help="what to draw; from --from-image if left out")
    parser.add_argument(
        "-o", "--output", type=Path, metavar="PNG", help="file to write (default: sdrt-SEED.png)"
    )
    parser.add_argument("-n", "--negative-prompt", metavar="TEXT", help="what to keep away from")
    parser.add_argument(
        "--from-image", type=Path, metavar="PNG", help="take all parameters from a PNG of sdrt"
    )
    parser.add_argument(
        *("--steps", "--num-inference-steps"),
        type=_whole_number,
        metavar="N",
        dest="num_inference_steps",
        help="number of denoising steps",
    )
    parser.add_argument(
        "--guidance-scale",
        type=_number,
        metavar="X",
        help="how strongly the prompt guides (1 = not at all)",
    )
    parser.add_argument(
        "--guidance-rescale",
        type=_number,
        metavar="X",
        help="0..1, against over-exposure by high guidance",
    )
    parser.add_argument(
        "--scheduler", metavar="NAME", help="e.g. euler, dpmpp_2m_karras, or a diffusers class name"
    )
    parser.add_argument("-W", "--width", type=_whole_number, metavar="N", help="pixels")
    parser.add_argument("-H", "--height", type=_whole_number, metavar="N", help="pixels")
    parser.add_argument(
        *("--num-images", "--num-images-per-prompt"),
        type=_whole_number,
        metavar="N",
        dest="num_images_per_prompt",
        help="seeds count up from --seed",
    )
    parser.add_argument(
        *("-s", "--seed"),
        type=_whole_number,
        metavar="N",
        help="default: a random one, which the PNG then carries",
    )
    parser.add_argument(
        "--eta", type=_number, metavar="X", help="share of fresh noise for DDIM, 0..1"
    )
    parser.add_argument(
        "--clip-skip",
        type=_whole_number,
        metavar="N",
        help="leave out that many of the text encoder's last layers",
    )
    _add_pictures(parser.add_argument_group("pictures"))
    _add_control(parser.add_argument_group("ControlNets, each by its name in the bundle"))
    parser.add_argument(
        "--target", default="auto", help="where to run (default: auto, the fastest that opens here)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def _add_pictures(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--image", metavar="PICTURE", help="begin with this picture")
    group.add_argument(
        *("--mask", "--mask-image"),
        metavar="PICTURE",
        dest="mask_image",
        help="paint only where this one is white",
    )
    group.add_argument(
        "--strength",
        type=_number,
        metavar="X",
        help="0..1, how much of the picture is made anew (default: 0.8, with a mask 1)",
    )
    group.add_argument(
        "--padding-mask-crop",
        type=_whole_number,
        metavar="N",
        help="draw only the mask and N pixels around it, larger, and paste it back",
    )
    group.add_argument(
        "--resize",
        choices=["crop", "pad", "stretch"],
        help="how pictures take another shape than their own",
    )


def _add_control(group: argparse._ArgumentGroup) -> None:
    for option, value, meaning in (
        ("--control", "NAME=PICTURE", "draw along this picture"),
        ("--control-scale", "NAME=X", "how much it counts (default: 1)"),
        ("--control-window", "NAME=START:END", "from which to which share of the steps (0:1)"),
        ("--annotate", "NAME=ANNOTATOR", "make the control picture from it first, with canny"),
    ):
        group.add_argument(option, action="append", metavar=value, help=meaning)
    group.add_argument(
        "--guess-mode",
        action=argparse.BooleanOptionalAction,
        help="let the control pictures decide where the prompt is silent",
    )


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


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_export)
    parser.add_argument("source", nargs="?", help='a diffusers folder, a Hub id, or "demo"')
    place = parser.add_mutually_exclusive_group(required=True)
    place.add_argument("-o", "--output", type=Path, help="bundle folder to make")
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
        "--weights", choices=["fp32", "fp16"], default="fp32", help="how weights are stored"
    )
    parser.add_argument(
        "--replace",
        action="store_true",
        help="replace the bundle that is there, or with --into its ControlNets so called",
    )


def _name_and_path(text: str) -> tuple[str, str]:
    name, _, path = text.partition("=")
    if not name or not path:
        raise argparse.ArgumentTypeError(f"got {text!r}, expected NAME=PATH, as in canny=folder")
    return name, path


def _add_build(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_build)
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument(
        "--target",
        required=True,
        help="tensorrt (this machine's GPU), tensorrt-rtx (any), or tensorrt-rtx:sm86,sm89",
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
        "--precision", choices=["fp16", "bf16"], default="fp16", help="what is computed in"
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
    parser.set_defaults(command=_inspect)
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def _add_verify(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_verify)
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument(
        "--target", default="auto", help="what to compare (default: auto, the fastest that opens)"
    )
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")


def _add_doctor(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_doctor)
    parser.add_argument("--json", action="store_true", help="print the findings as JSON")


def _run(options: argparse.Namespace) -> None:
    from sdrt.command_run import run

    run(options)


def _export(options: argparse.Namespace) -> None:
    controlnets = _each_once(options.controlnets)
    if options.into is not None and (options.source is not None or not controlnets):
        raise UsageError(
            "--into adds ControlNets to a bundle: it goes with --controlnet NAME=PATH and without "
            "a checkpoint (see sdrt export --help)"
        )
    if options.into is None and options.source is None:
        raise UsageError("the checkpoint to export is missing (see sdrt export --help)")
    given = {"weights": options.weights, "replace": options.replace}
    try:  # the exporter checks the checkpoint before it imports what takes long
        from sdrt_export.exporting import add_controlnets, export_checkpoint

        if options.into is not None:
            add_controlnets(options.into, controlnets, **given)
        else:
            export_checkpoint(options.source, options.output, controlnets=controlnets, **given)
    except ModuleNotFoundError as error:
        raise SdrtError(
            f"'sdrt export' needs {error.name}, which is not installed: pip install 'sdrt[export]'"
        ) from error


def _each_once(controlnets: Sequence[tuple[str, str]]) -> dict[str, str]:
    for name, _ in controlnets:
        if [name for name, _ in controlnets].count(name) > 1:
            raise UsageError(
                f"argument --controlnet: '{name}' comes twice: give each ControlNet its own name"
            )
    return dict(controlnets)


def _build(options: argparse.Namespace) -> None:
    from sdrt.bundle import Bundle
    from sdrt_engines import Target

    bundle, target = Bundle.open(options.bundle), Target.parse(options.target)
    from sdrt_export.building import build_bundle

    def report(line: str) -> None:
        if not options.quiet:
            sys.stderr.write(f"{line}\n")

    build = build_bundle(
        bundle,
        target,
        shapes=options.shapes,
        batch=options.batch,
        precision=options.precision,
        components=options.component,
        prune=options.prune,
        report=report,
    )
    if not options.quiet:
        for record in build.built:
            sys.stdout.write(f"{bundle.root / record.plan.path}\n")
        if not build.built:
            sys.stdout.write("everything is there already, nothing was built\n")


def _inspect(options: argparse.Namespace) -> None:
    from sdrt.command_inspect import inspect

    inspect(options.bundle, as_json=options.json)


def _verify(options: argparse.Namespace) -> None:
    from sdrt.command_verify import verify

    verify(options.bundle, options.target, as_json=options.json)


def _doctor(options: argparse.Namespace) -> None:
    from sdrt.command_doctor import doctor

    doctor(as_json=options.json)


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"sdrt: warning: {message}\n"
