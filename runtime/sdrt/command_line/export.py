"""``sdrt export`` and ``sdrt build``: the only commands that reach ``sdrt_export``."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sdrt.bundle.folder import Bundle
from sdrt.errors import SdrtError, UsageError
from sdrt_engines import Target


def export(options: argparse.Namespace) -> None:
    """A checkpoint to a bundle, and that to plans; or ControlNets into a bundle."""
    controlnets = _each_once(options.controlnets)
    if options.into is not None and (options.source is not None or not controlnets):
        raise UsageError(
            "--into adds ControlNets to a bundle: it goes with --controlnet NAME=PATH and without "
            "a checkpoint (see sdrt export --help)"
        )
    if options.into is None and options.source is None:
        raise UsageError("the checkpoint to export is missing (see sdrt export --help)")
    targets = _targets_to_build(options.targets)
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
    for target in targets:
        _build(options.into or options.output, target)


def _targets_to_build(texts: Sequence[str]) -> list[Target]:
    """Those that run what is built for them; what cannot be built is refused before an export."""
    from sdrt_export.building.targets import BUILT, require_buildable

    targets = [target for target in map(Target.parse, texts) if target.backend in BUILT]
    for target in targets:
        require_buildable(target)
    return targets


def _each_once(controlnets: Sequence[tuple[str, str]]) -> dict[str, str]:
    for name, _ in controlnets:
        if [name for name, _ in controlnets].count(name) > 1:
            raise UsageError(
                f"argument --controlnet: '{name}' comes twice: give each ControlNet its own name"
            )
    return dict(controlnets)


def build(options: argparse.Namespace) -> None:
    """What a target needs beside the bundle's ONNX; tells each stage unless it shall be quiet."""
    from sdrt_export.building.targets import WHOLE

    target = Target.parse(options.target)
    wanted: dict[str, Any] = {"components": options.component}
    if target.backend != "cpu":
        wanted["precision"] = options.precision or "fp16"
    elif options.precision is not None:
        raise UsageError("target cpu computes in float32: leave out --precision")
    if target.backend not in WHOLE:
        wanted |= {"shapes": options.shapes, "batch": options.batch, "prune": options.prune}
    elif options.shapes or options.batch != "1" or options.prune:
        raise UsageError(
            f"target {target.backend} runs every shape with one graph: leave out --shapes, "
            "--batch and --prune"
        )
    built = _build(options.bundle, target, quiet=options.quiet, **wanted)
    if not options.quiet:
        sys.stdout.write("".join(f"{path}\n" for path in built))
        if not built:
            sys.stdout.write("everything is there already, nothing was built\n")


def _build(bundle: str | Path, target: Target, *, quiet: bool = False, **wanted: Any) -> list[Path]:
    """Builds into the bundle; the paths of what was not there."""
    from sdrt_export.building.targets import build_for

    def report(line: str) -> None:
        if not quiet:
            sys.stderr.write(f"{line}\n")

    return build_for(target, Bundle.open(bundle), report, **wanted)
