"""`sdrt run`: parameters from the command line or a PNG, progress on the terminal, PNGs with
parameters.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from sdrt.bundle.folder import Bundle
from sdrt.command_line.control_options import controls_from_options
from sdrt.command_line.from_image import notes_on_changed_files, notes_on_merged, record_of
from sdrt.command_line.output_files import require_writable
from sdrt.command_line.printable import printable
from sdrt.errors import UsageError
from sdrt.metadata.parameters import input_images
from sdrt.metadata.record import Record
from sdrt.metadata.saving import free_paths, output_paths, require_no_input, save_new_images
from sdrt.notes import Note
from sdrt.parameters import PARAMETER
from sdrt.pipeline import Pipeline
from sdrt.request import Request
from sdrt.result import Result, Step
from sdrt.targets.int8 import int8_target
from sdrt.warm_up import shortened


def run(options: argparse.Namespace) -> None:
    """Generates images and saves them. Checks as much as possible before the first engine opens."""
    given = {name: value for name, value in vars(options).items() if value is not None}
    record = record_of(options.from_image, given) if options.from_image else Record()
    bundle, refiner, request = _requested(options, given, record)
    with Pipeline.open(
        bundle,
        _target(bundle, options),
        options.num_threads,
        refiner,
        low_memory=options.low_memory,
        speed=request.speed or "exact",
    ) as pipeline:
        if options.from_image:
            merged = pipeline.bundle.manifest.merged
            _print_notes_on_original(options, notes_on_merged(request, record, merged))
        resolved = pipeline.resolve(request)
        paths = _output_paths(options, resolved)
        if options.warm_up:
            _take(pipeline.stream(shortened(request, pipeline.bundle)), show=False)
        # not the resolved request: notes are about what was given
        stream = pipeline.stream(request, deadline=options.deadline, last=True, seed=resolved.seed)
        num_steps = _take(stream, show=not options.quiet and sys.stderr.isatty())
        saved = _saved(stream.result, options, paths)
    if not options.quiet:
        _print_notes(stream.result.notes)
        sys.stderr.write(printable(_summary(stream.result, num_steps, request)) + "\n")
        sys.stdout.write("".join(f"{path}\n" for path in saved))


def _target(bundle: str, options: argparse.Namespace) -> str:
    if options.precision is None:
        return str(options.target)
    return str(int8_target(Bundle.open(bundle), options.target))


def _requested(
    options: argparse.Namespace, given: Mapping[str, Any], record: Record
) -> tuple[str, str | None, Request]:
    """The bundle, the refiner and the request: those of the PNG, overridden by the command line."""
    _print_notes_on_original(options, record.notes)
    controls = controls_from_options(options, record.parameters)
    values = {**record.parameters, **given, "control": controls}
    for name in ("bundle", "prompt"):
        if name not in values:
            raise UsageError(
                f"no {name} was given: write sdrt run BUNDLE PROMPT, or give --from-image a "
                "PNG made by sdrt"
            )
    request = Request(**{name: values[name] for name in PARAMETER if name in values})
    _print_notes_on_original(options, notes_on_changed_files(request, record))
    return str(values["bundle"]), values.get("refiner"), request


def _output_paths(options: argparse.Namespace, request: Request) -> tuple[Path, ...]:
    """One path per image, each checked to be writable and not to be an input."""
    if options.output is None:
        paths = free_paths(Path(f"sdrt-{request.seed}.png"), request.num_images)
    else:
        paths = output_paths(options.output, request.num_images)
    inputs = [Path(image.path) for image in input_images(request) if image.path]
    require_no_input(paths, [*inputs, *([options.from_image] if options.from_image else [])])
    for path in paths:
        require_writable(path, "-o", "a PNG")
    return paths


def _saved(
    result: Result, options: argparse.Namespace, paths: tuple[Path, ...]
) -> tuple[Path, ...]:
    """The paths of the images: those chosen by the user, or new ones that replace no file."""
    if options.output is None:
        return save_new_images(result.images, result.parameters, paths, options.metadata)
    return result.save(options.output, options.metadata)


def _print_notes_on_original(options: argparse.Namespace, notes: Iterable[Note]) -> None:
    found = list(notes)  # also if they are not printed: this checks what the PNG says
    if not options.quiet:
        _print_notes(found, f"{options.from_image}: ")


def _print_notes(notes: Iterable[Note], prefix: str = "") -> None:
    sys.stderr.write("".join(f"sdrt: note: {prefix}{printable(note)}\n" for note in notes))


def _take(steps: Iterator[Step], *, show: bool) -> int:
    """Takes all steps; returns their number, which an input image reduces."""
    if show:
        from sdrt.command_line.progress import shown  # rich takes a tenth of a second to import

        steps = shown(steps)
    return sum(1 for _ in steps)


def _summary(result: Result, num_steps: int, given: Request) -> str:
    request, timings = result.request, result.timings
    stages = {**timings.seconds, "host": timings.host}
    parts = (f"{name.replace('_', ' ')} {spent:.2f}" for name, spent in stages.items())
    return (
        f"{request.num_images} × {request.width}×{request.height}, "
        f"{_counted(num_steps, result, given)} on {result.engine} in {timings.total:.2f} s: "
        f"{', '.join(parts)}"
    )


def _counted(num_steps: int, result: Result, given: Request) -> str:
    """The steps, and how many calls were forecast; images of a batch may differ."""
    steps = f"{num_steps} step" if num_steps == 1 else f"{num_steps} steps"
    if not any(result.num_forecasts):
        return steps
    least, most = min(result.num_forecasts), max(result.num_forecasts)
    forecasts = f"{least}" if least == most else f"{least} to {most}"
    chosen = f" ({given.speed}: --forecast {result.request.forecast})" if not given.forecast else ""
    return f"{steps}, {forecasts} of them forecast{chosen},"
