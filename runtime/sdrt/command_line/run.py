"""`sdrt run`: parameters from the command line or a PNG, progress on the terminal, PNGs with
parameters.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from sdrt.command_line.control_options import controls_from_options
from sdrt.command_line.output_files import require_writable
from sdrt.errors import SdrtError, UsageError
from sdrt.metadata.parameters import parameters_from_result
from sdrt.metadata.png import read_parameters, save_png
from sdrt.parameters import PARAMETER
from sdrt.pipeline import Pipeline
from sdrt.request import Request
from sdrt.result import Result, Step

_OTHER_FIELDS = ("bundle", "model", "version")  # other fields of a PNG, which do not change pixels


def run(options: argparse.Namespace) -> None:
    """Generates images and saves them. Checks as much as possible before the first engine opens."""
    bundle, request = _requested(options)
    with Pipeline.open(bundle, options.target, options.num_threads) as pipeline:
        resolved = pipeline.resolve(request)
        paths = _output_paths(options.output, resolved)
        stream = pipeline.stream(request, seed=resolved.seed)  # notes are about what was given
        _take(stream, show=not options.quiet and sys.stderr.isatty())
        scheduler = request.scheduler or pipeline.bundle.scheduler_config["_class_name"]
        recorded = parameters_from_result(stream.result, bundle, scheduler)
        for path, image, parameters in zip(paths, stream.result.images, recorded, strict=True):
            save_png(image, path, parameters)
    if not options.quiet:
        sys.stderr.write("".join(f"sdrt: note: {note}\n" for note in stream.result.notes))
        sys.stderr.write(_summary(stream.result) + "\n")
        sys.stdout.write("".join(f"{path}\n" for path in paths))


def _requested(options: argparse.Namespace) -> tuple[str, Request]:
    """The bundle and the request: those of the PNG, overridden by the command line."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    recorded = _recorded(options.from_image, given) if options.from_image else {}
    values = {**recorded, **given, "control": controls_from_options(options, recorded)}
    for name in ("bundle", "prompt"):
        if name not in values:
            raise UsageError(
                f"no {name} was given: write sdrt run BUNDLE PROMPT, or give --from-image a "
                "PNG made by sdrt"
            )
    return str(values["bundle"]), Request(
        **{name: values[name] for name in PARAMETER if name in values}
    )


def _recorded(path: Path, given: Mapping[str, Any]) -> Mapping[str, Any]:
    """The parameters of a PNG. Warns of unsupported ones, as the image will differ."""
    recorded = read_parameters(path)
    unknown = [name for name in recorded if name not in (*PARAMETER, *_OTHER_FIELDS)]
    if unknown:
        warnings.warn(
            f"{path} was made with {', '.join(unknown)}, which this version does not know: "
            "the image will differ",
            stacklevel=2,
        )
    if "strength" in recorded and "image" not in {*recorded, *given}:  # A1111 does not name it
        warnings.warn(
            f"{path} was made from another image, which it does not name: give that image with "
            "--image, or the new image starts from noise",
            stacklevel=2,
        )
        del recorded["strength"]
    return recorded


def _output_paths(output: Path | None, request: Request) -> tuple[Path, ...]:
    """One path per image, each checked to be writable: out.png, or out-1.png, out-2.png, …"""
    output = output or Path(f"sdrt-{request.seed}.png")
    if output.suffix.lower() != ".png":
        raise SdrtError(
            f"{output}: sdrt writes PNGs only, which can record their parameters: name it *.png"
        )
    paths = [output]
    if request.num_images > 1:
        paths = [output.with_stem(f"{output.stem}-{i + 1}") for i in range(request.num_images)]
    for path in paths:
        require_writable(path, "-o", "a PNG")
    return tuple(paths)


def _take(steps: Iterator[Step], *, show: bool) -> None:
    if show:
        from sdrt.command_line.progress import shown  # rich takes a tenth of a second to import

        steps = shown(steps)
    for _ in steps:
        pass


def _summary(result: Result) -> str:
    request, timings = result.request, result.timings
    stages = {**timings.seconds, "host": timings.host}
    parts = (f"{name.replace('_', ' ')} {spent:.2f}" for name, spent in stages.items())
    return (
        f"{request.num_images} × {request.width}×{request.height}, "
        f"{_counted(request.num_inference_steps)} on {result.engine} in {timings.total:.2f} s: "
        f"{', '.join(parts)}"
    )


def _counted(num_steps: int | None) -> str:
    return f"{num_steps} step" if num_steps == 1 else f"{num_steps} steps"
