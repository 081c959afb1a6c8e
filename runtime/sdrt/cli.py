"""The command line: ``sdrt run``, ``sdrt export``, ``sdrt inspect``.

Errors that sdrt raises are one line and exit code 1, usage errors exit code 2; ``--debug`` shows
the traceback.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import sdrt
from sdrt.errors import SdrtError


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs one command and gives its exit code."""
    options = _parser().parse_args(arguments)
    warnings.formatwarning = _format_warning
    try:
        options.command(options)
    except SdrtError as error:
        if options.debug:
            raise
        sys.stderr.write(f"sdrt: {error}\n")
        return 1
    except KeyboardInterrupt:
        sys.stderr.write("sdrt: interrupted, nothing was written\n")
        return 130
    return 0


def _parser() -> argparse.ArgumentParser:
    common = argparse.ArgumentParser(add_help=False)
    common.add_argument("--debug", action="store_true", help="show the traceback of an error")
    parser = argparse.ArgumentParser("sdrt", description=(sdrt.__doc__ or "").partition("\n")[0])
    parser.add_argument("--version", action="version", version=f"sdrt {sdrt.__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    _add_run(commands.add_parser("run", parents=[common], help="draw images with a bundle"))
    _add_export(
        commands.add_parser("export", parents=[common], help="compile a checkpoint into a bundle")
    )
    _add_inspect(commands.add_parser("inspect", parents=[common], help="show what a bundle holds"))
    return parser


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_run)
    parser.add_argument(
        "bundle", nargs="?", help='a bundle folder, or "demo"; from --from-image if left out'
    )
    parser.add_argument("prompt", nargs="?", help="what to draw; from --from-image if left out")
    parser.add_argument("-o", "--output", type=Path, help="PNG to write (default: sdrt-SEED.png)")
    parser.add_argument("-n", "--negative-prompt", help="what to keep away from")
    parser.add_argument(
        "--from-image", type=Path, metavar="PNG", help="take all parameters from a PNG of sdrt"
    )
    parser.add_argument(
        "--steps", type=int, dest="num_inference_steps", help="number of denoising steps"
    )
    parser.add_argument(
        "--guidance-scale", type=float, help="how strongly the prompt guides (1 = not at all)"
    )
    parser.add_argument(
        "--guidance-rescale", type=float, help="0..1, against over-exposure by high guidance"
    )
    parser.add_argument(
        "--scheduler", help="e.g. euler, dpmpp_2m_karras, or a diffusers class name"
    )
    parser.add_argument("-W", "--width", type=int, help="pixels")
    parser.add_argument("-H", "--height", type=int, help="pixels")
    parser.add_argument(
        "--num-images", type=int, dest="num_images_per_prompt", help="seeds count up from --seed"
    )
    parser.add_argument(
        "-s", "--seed", type=int, help="default: a random one, which the PNG then carries"
    )
    parser.add_argument("--eta", type=float, help="share of fresh noise for DDIM, 0..1")
    parser.add_argument(
        "--clip-skip", type=int, help="leave out that many of the text encoder's last layers"
    )
    parser.add_argument(
        "--target", default="auto", help="where to run: auto, cpu, … (default: auto)"
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="print nothing but errors")


def _add_export(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_export)
    parser.add_argument("source", help='a diffusers folder, a Hub id, or "demo"')
    parser.add_argument("-o", "--output", type=Path, required=True, help="bundle folder to make")
    parser.add_argument(
        "--weights", choices=["fp32", "fp16"], default="fp32", help="how weights are stored"
    )
    parser.add_argument("--replace", action="store_true", help="replace the bundle that is there")


def _add_inspect(parser: argparse.ArgumentParser) -> None:
    parser.set_defaults(command=_inspect)
    parser.add_argument("bundle", help='a bundle folder, or "demo"')
    parser.add_argument("--json", action="store_true", help="print the manifest as JSON")


def _run(options: argparse.Namespace) -> None:
    from sdrt.command_run import run

    run(options)


def _export(options: argparse.Namespace) -> None:
    try:
        from sdrt_export.exporting import export_checkpoint
    except ModuleNotFoundError as error:
        _explain_missing(error)
    export_checkpoint(
        options.source, options.output, weights=options.weights, replace=options.replace
    )


def _explain_missing(error: ModuleNotFoundError) -> NoReturn:
    raise SdrtError(
        f"'sdrt export' needs {error.name}, which is not installed: pip install 'sdrt[export]'"
    ) from error


def _inspect(options: argparse.Namespace) -> None:
    from sdrt.command_inspect import inspect

    inspect(options.bundle, as_json=options.json)


def _format_warning(message: Warning | str, *_: object, **__: object) -> str:
    return f"sdrt: warning: {message}\n"
