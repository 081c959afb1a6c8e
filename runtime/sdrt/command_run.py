"""``sdrt run``: parameters from the command line or a PNG, progress on the terminal, PNGs with
parameters.
"""

from __future__ import annotations

import argparse
import os
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from sdrt.errors import SdrtError
from sdrt.pipeline import Pipeline
from sdrt.png import read_parameters, save_png
from sdrt.request import Request
from sdrt.result import Result

_REQUEST_FIELDS = tuple(field.name for field in fields(Request))


def run(options: argparse.Namespace) -> None:
    """Draws and saves. Everything that can be refused is refused before the first engine is
    opened."""
    bundle, request = _requested(options)
    with Pipeline.open(bundle, options.target) as pipeline:
        request = pipeline.resolve(request)
        paths = _output_paths(options.output, request)
        result = _draw(pipeline, request, Console(stderr=True, quiet=options.quiet))
        for path, image, parameters in zip(
            paths, result.images, _parameters(pipeline, bundle, result), strict=True
        ):
            save_png(image, path, parameters)
    if not options.quiet:
        Console(highlight=False).print("\n".join(map(str, paths)))


def _requested(options: argparse.Namespace) -> tuple[str, Request]:
    """The bundle and the request: what the PNG says, overridden by what the command line says."""
    recorded = read_parameters(options.from_image) if options.from_image else {}
    given = {name: value for name, value in vars(options).items() if value is not None}
    values = recorded | given
    for name in ("bundle", "prompt"):
        if name not in values:
            raise SdrtError(
                f"no {name} was given: sdrt run BUNDLE PROMPT, or --from-image with a PNG of sdrt"
            )
    keywords = {
        name: values[name] for name in _REQUEST_FIELDS if name in values and name != "prompt"
    }
    return str(values["bundle"]), Request(values["prompt"], **keywords)


def _output_paths(output: Path | None, request: Request) -> tuple[Path, ...]:
    """One path per image, each checked for being writable: out.png, or out-1.png, out-2.png, …"""
    output = output or Path(f"sdrt-{request.seed}.png")
    if output.suffix.lower() != ".png":
        raise SdrtError(
            f"{output}: images are PNGs, which can carry their parameters; name it *.png"
        )
    paths = [output]
    if request.num_images > 1:
        paths = [output.with_stem(f"{output.stem}-{i + 1}") for i in range(request.num_images)]
    for path in paths:
        if path.is_dir():
            raise SdrtError(f"{path}: is a folder, expected the name of a PNG to write")
        if not path.parent.is_dir():
            raise SdrtError(f"{path}: folder {path.parent} does not exist; make it first")
        if not os.access(path if path.exists() else path.parent, os.W_OK):
            raise SdrtError(f"{path}: not writable; choose another place with -o")
    return tuple(paths)


def _draw(pipeline: Pipeline, request: Request, console: Console) -> Result:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("loading", total=None)
        stream = pipeline.stream(request)
        for step in stream:
            progress.update(
                bar, description="denoising", total=step.total, completed=step.index + 1
            )
    spent = asdict(stream.result.timings)
    total = spent.pop("total")
    console.print(
        f"{request.num_images} × {request.width}×{request.height}, "
        f"{request.num_inference_steps} steps on {stream.result.engine} in {total:.2f} s: "
        + ", ".join(f"{name.replace('_', ' ')} {seconds:.2f}" for name, seconds in spent.items()),
        highlight=False,
        soft_wrap=True,
    )
    return stream.result


def _parameters(pipeline: Pipeline, bundle: str, result: Result) -> list[dict[str, Any]]:
    """What each PNG carries: enough to make this one image again, alone."""
    request = result.request
    model = bundle if bundle == "demo" else str(Path(bundle).resolve())
    return [
        _without_none(
            {name: getattr(request, name) for name in _REQUEST_FIELDS}
            | {
                "prompt": prompt,
                "negative_prompt": negative,
                "num_images_per_prompt": 1,
                "seed": seed,
                "scheduler": request.scheduler or pipeline.bundle.scheduler_config["_class_name"],
                "bundle": model,
            }
        )
        for prompt, negative, seed in zip(
            request.prompts, request.negative_prompts, result.seeds, strict=True
        )
    ]


def _without_none(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}
